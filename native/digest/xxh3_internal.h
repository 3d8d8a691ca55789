// What the files of XXH3 share beside the steps that a GPU has too. Little-endian machines only. Any thread.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "digest/xxh3.h"
#include "digest/xxh3_steps.h"

namespace kvtier::xxh3 {

static_assert(std::endian::native == std::endian::little, "digest/ reads words as they lie in memory");

inline void write_64(std::uint8_t* to, std::uint64_t value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

[[nodiscard]] inline Hash128 multiply(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return {static_cast<std::uint64_t>(product), static_cast<std::uint64_t>(product >> 64)};
}

// Hashes of at most kShortBytes bytes.
[[nodiscard]] std::uint64_t short_64(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept;
[[nodiscard]] Hash128 short_128(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept;

// Adds `stripe_count` stripes to eight accumulators (64-byte aligned), scrambling after each block of kStripesPerBlock.
// `stripe_in_block` is the position of the first one; the result is the position after the last one.
using Accumulate = std::size_t (*)(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                                   const std::uint8_t* secret, std::size_t stripe_in_block) noexcept;

std::size_t accumulate_scalar(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                              const std::uint8_t* secret, std::size_t stripe_in_block) noexcept;
#if defined(__x86_64__)
// Needs AVX2.
std::size_t accumulate_avx2(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                            const std::uint8_t* secret, std::size_t stripe_in_block) noexcept;
#elif defined(__aarch64__)
std::size_t accumulate_neon(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                            const std::uint8_t* secret, std::size_t stripe_in_block) noexcept;
#endif

}  // namespace kvtier::xxh3
