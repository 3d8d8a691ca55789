// The sequence hash chain over a prompt's tokens: key_i = SHA-256("kvb1" | lp(parent) | lp(tokens_i) | lp(extra_i)),
// where lp is a 32-bit little-endian length before the bytes and tokens are 32-bit little-endian. The parent of block 0
// is the root that lib/identity makes from the fingerprint and the tenant's salt. SHA-256 is OpenSSL's as the host
// process carries it. Any thread.
#pragma once

#include <cstdint>
#include <span>

#include "core/status.h"
#include "digest/sequence_hash.h"

namespace kvtier {

// True when the process carries OpenSSL's SHA-256; otherwise lib/identity hashes with node:crypto.
[[nodiscard]] bool token_chain_available() noexcept;

// Hashes hashes.size() blocks: tokens.size() must be hashes.size() * tokens_per_block. `extra` is bound into every
// block of the call. Fails with kUnsupported where SHA-256 is hidden, kInvalidValue when the sizes do not fit.
[[nodiscard]] Status hash_tokens(const SequenceHash& parent, std::span<const std::uint32_t> tokens,
                                 std::uint32_t tokens_per_block, std::span<const std::uint8_t> extra,
                                 std::span<SequenceHash> hashes) noexcept;

}  // namespace kvtier
