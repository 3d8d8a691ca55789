// What hashing tokens can cost: a plain loop over the same SHA-256 as digest/token_chain.h. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace limits {

// Hashes `block_count` blocks of `tokens_per_block` tokens (at most 64), each with the hash before it, into `hashes`
// (32 bytes a block). False when the process has no SHA-256 of OpenSSL.
[[nodiscard]] bool hash_chain(const std::uint8_t* parent, const std::uint32_t* tokens, std::size_t tokens_per_block,
                              std::size_t block_count, std::uint8_t* hashes) noexcept;

}  // namespace limits
