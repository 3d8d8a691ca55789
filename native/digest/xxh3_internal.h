// The constants and small steps of XXH3 that its files share. Little-endian machines only. Any thread.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "digest/xxh3.h"

namespace kvtier::xxh3 {

static_assert(std::endian::native == std::endian::little, "digest/ reads words as they lie in memory");

inline constexpr std::uint64_t kPrime32_1 = 0x9E3779B1U;
inline constexpr std::uint64_t kPrime32_2 = 0x85EBCA77U;
inline constexpr std::uint64_t kPrime32_3 = 0xC2B2AE3DU;
inline constexpr std::uint64_t kPrime64_1 = 0x9E3779B185EBCA87U;
inline constexpr std::uint64_t kPrime64_2 = 0xC2B2AE3D27D4EB4FU;
inline constexpr std::uint64_t kPrime64_3 = 0x165667B19E3779F9U;
inline constexpr std::uint64_t kPrime64_4 = 0x85EBCA77C2B2AE63U;
inline constexpr std::uint64_t kPrime64_5 = 0x27D4EB2F165667C5U;
inline constexpr std::uint64_t kMix_1 = 0x165667919E3779F9U;
inline constexpr std::uint64_t kMix_2 = 0x9FB21C651E98DF25U;

inline constexpr std::size_t kSecretBytes = 192;
inline constexpr std::size_t kStripeBytes = 64;
// The secret moves on by 8 bytes a stripe; after this many the accumulators are scrambled and it starts again.
inline constexpr std::size_t kStripesPerBlock = (kSecretBytes - kStripeBytes) / 8;
// Up to here the short forms apply.
inline constexpr std::size_t kShortBytes = 240;
// Where in the secret the scramble, the last stripe and the two final merges read.
inline constexpr std::size_t kScrambleSecret = kSecretBytes - kStripeBytes;
inline constexpr std::size_t kLastStripeSecret = kSecretBytes - kStripeBytes - 7;
inline constexpr std::size_t kMergeSecretLow = 11;
inline constexpr std::size_t kMergeSecretHigh = kSecretBytes - kStripeBytes - 11;

inline constexpr std::array<std::uint64_t, 8> kInitialAccumulators = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                                                                      kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};

extern const std::array<std::uint8_t, kSecretBytes> kDefaultSecret;

[[nodiscard]] inline std::uint32_t read_32(const std::uint8_t* from) noexcept {
  std::uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

[[nodiscard]] inline std::uint64_t read_64(const std::uint8_t* from) noexcept {
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void write_64(std::uint8_t* to, std::uint64_t value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

[[nodiscard]] constexpr std::uint32_t swap_32(std::uint32_t value) noexcept {
  return __builtin_bswap32(value);
}
[[nodiscard]] constexpr std::uint64_t swap_64(std::uint64_t value) noexcept {
  return __builtin_bswap64(value);
}

[[nodiscard]] inline Hash128 multiply(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return {static_cast<std::uint64_t>(product), static_cast<std::uint64_t>(product >> 64)};
}

[[nodiscard]] inline std::uint64_t multiply_fold(std::uint64_t a, std::uint64_t b) noexcept {
  const Hash128 product = multiply(a, b);
  return product.low ^ product.high;
}

[[nodiscard]] constexpr std::uint64_t avalanche(std::uint64_t hash) noexcept {
  hash ^= hash >> 37;
  hash *= kMix_1;
  return hash ^ (hash >> 32);
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
