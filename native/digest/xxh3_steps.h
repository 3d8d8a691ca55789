// The steps of 64-bit XXH3: constants, arithmetic, and the forms of short inputs. They are compiled for the CPU and, by
// nvcc, for a GPU, so that both hash by the same code. Little-endian machines only. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/device_code.h"

namespace kvtier::xxh3 {

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

KVTIER_DEVICE_TABLE std::uint64_t kInitialAccumulators[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                                                             kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};

// The published default secret, as the words that its 192 bytes are in memory.
alignas(64) KVTIER_DEVICE_TABLE std::uint64_t kDefaultSecretWords[kSecretBytes / 8] = {
    0xbe4ba423396cfeb8U, 0x1cad21f72c81017cU, 0xdb979083e96dd4deU, 0x1f67b3b7a4a44072U, 0x78e5c0cc4ee679cbU,
    0x2172ffcc7dd05a82U, 0x8e2443f7744608b8U, 0x4c263a81e69035e0U, 0xcb00c391bb52283cU, 0xa32e531b8b65d088U,
    0x4ef90da297486471U, 0xd8acdea946ef1938U, 0x3f349ce33f76faa8U, 0x1d4f0bc7c7bbdcf9U, 0x3159b4cd4be0518aU,
    0x647378d9c97e9fc8U, 0xc3ebd33483acc5eaU, 0xeb6313faffa081c5U, 0x49daf0b751dd0d17U, 0x9e68d429265516d3U,
    0xfca1477d58be162bU, 0xce31d07ad1b8f88fU, 0x280416958f3acb45U, 0x7e404bbbcafbd7afU};

// Where the second half of the 129..240 byte forms and their last step read the secret.
inline constexpr std::size_t kMiddleSecret = 3;
inline constexpr std::size_t kMiddleLastSecret = 136 - 17;

[[nodiscard]] KVTIER_DEVICE const std::uint8_t* default_secret() noexcept {
  return reinterpret_cast<const std::uint8_t*>(kDefaultSecretWords);
}

// Words from any address, which a GPU reads byte by byte: it has to do so for odd sizes alone.
[[nodiscard]] KVTIER_DEVICE std::uint32_t read_32(const std::uint8_t* from) noexcept {
#if defined(__CUDACC__)
  std::uint32_t value = 0;
  KVTIER_ROLLED
  for (unsigned i = 0; i < sizeof value; ++i) value |= std::uint32_t{from[i]} << (8 * i);
#else
  std::uint32_t value;
  std::memcpy(&value, from, sizeof value);
#endif
  return value;
}
[[nodiscard]] KVTIER_DEVICE std::uint64_t read_64(const std::uint8_t* from) noexcept {
#if defined(__CUDACC__)
  std::uint64_t value = 0;
  KVTIER_ROLLED
  for (unsigned i = 0; i < sizeof value; ++i) value |= std::uint64_t{from[i]} << (8 * i);
#else
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
#endif
  return value;
}

// Compilers know these as one instruction.
[[nodiscard]] KVTIER_DEVICE std::uint32_t swap_32(std::uint32_t value) noexcept {
  return value << 24 | (value & 0xFF00U) << 8 | (value >> 8 & 0xFF00U) | value >> 24;
}
[[nodiscard]] KVTIER_DEVICE std::uint64_t swap_64(std::uint64_t value) noexcept {
  return std::uint64_t{swap_32(static_cast<std::uint32_t>(value))} << 32 |
         swap_32(static_cast<std::uint32_t>(value >> 32));
}
[[nodiscard]] KVTIER_DEVICE std::uint64_t rotate_left(std::uint64_t value, unsigned bits) noexcept {
  return value << bits | value >> (64 - bits);
}

// Both halves of the 128-bit product, one xor the other.
[[nodiscard]] KVTIER_DEVICE std::uint64_t multiply_fold(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__CUDACC__)
  return (a * b) ^ __umul64hi(a, b);
#else
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#endif
}

// What a word of data, xor its secret, adds to its own accumulator; the word itself goes to the neighbour's.
[[nodiscard]] KVTIER_DEVICE std::uint64_t multiply_halves(std::uint64_t keyed) noexcept {
  return (keyed & 0xFFFFFFFFU) * (keyed >> 32);
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t scramble_word(std::uint64_t sum, std::uint64_t key) noexcept {
  return (sum ^ (sum >> 47) ^ key) * kPrime32_1;
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t avalanche(std::uint64_t hash) noexcept {
  hash ^= hash >> 37;
  hash *= kMix_1;
  return hash ^ (hash >> 32);
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t secret_64(std::size_t offset) noexcept {
  const std::uint64_t* const words = kDefaultSecretWords + offset / 8;
  const unsigned bits = offset % 8 * 8;
  return bits == 0 ? words[0] : words[0] >> bits | words[1] << (64 - bits);
}
[[nodiscard]] KVTIER_DEVICE std::uint64_t secret_xor_64(std::size_t first, std::size_t second) noexcept {
  return secret_64(first) ^ secret_64(second);
}
[[nodiscard]] KVTIER_DEVICE std::uint64_t secret_xor_32(std::size_t first, std::size_t second) noexcept {
  return (secret_64(first) ^ secret_64(second)) & 0xFFFFFFFFU;
}

// The finish of XXH64, which the shortest inputs take.
[[nodiscard]] KVTIER_DEVICE std::uint64_t avalanche_64(std::uint64_t hash) noexcept {
  hash ^= hash >> 33;
  hash *= kPrime64_2;
  hash ^= hash >> 29;
  hash *= kPrime64_3;
  return hash ^ (hash >> 32);
}

// 1 to 3 bytes and their number in one word.
[[nodiscard]] KVTIER_DEVICE std::uint32_t pack_1_to_3(const std::uint8_t* data, std::size_t length) noexcept {
  return std::uint32_t{data[0]} << 16 | std::uint32_t{data[length >> 1]} << 24 | std::uint32_t{data[length - 1]} |
         static_cast<std::uint32_t>(length) << 8;
}

// What 4 to 8 bytes do to their seed first.
[[nodiscard]] KVTIER_DEVICE std::uint64_t spread_seed(std::uint64_t seed) noexcept {
  return seed ^ std::uint64_t{swap_32(static_cast<std::uint32_t>(seed))} << 32;
}

[[nodiscard]] KVTIER_DEVICE_CALL std::uint64_t mix_16(const std::uint8_t* data, std::size_t secret,
                                                      std::uint64_t seed) noexcept {
  return multiply_fold(read_64(data) ^ (secret_64(secret) + seed), read_64(data + 8) ^ (secret_64(secret + 8) - seed));
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t hash_4_to_8(const std::uint8_t* data, std::size_t length,
                                                      std::uint64_t seed) noexcept {
  const std::uint64_t word = read_32(data + length - 4) + (std::uint64_t{read_32(data)} << 32);
  std::uint64_t hash = word ^ (secret_xor_64(8, 16) - spread_seed(seed));
  hash ^= rotate_left(hash, 49) ^ rotate_left(hash, 24);
  hash *= kMix_2;
  hash ^= (hash >> 35) + length;
  hash *= kMix_2;
  return hash ^ (hash >> 28);
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t hash_9_to_16(const std::uint8_t* data, std::size_t length,
                                                       std::uint64_t seed) noexcept {
  const std::uint64_t low = read_64(data) ^ (secret_xor_64(24, 32) + seed);
  const std::uint64_t high = read_64(data + length - 8) ^ (secret_xor_64(40, 48) - seed);
  return avalanche(length + swap_64(low) + high + multiply_fold(low, high));
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t hash_17_to_128(const std::uint8_t* data, std::size_t length,
                                                         std::uint64_t seed) noexcept {
  std::uint64_t sum = length * kPrime64_1;
  // Pairs of 16 bytes from both ends towards the middle.
  KVTIER_ROLLED
  for (std::size_t pair = 0; pair <= (length - 1) / 32; ++pair) {
    sum += mix_16(data + 16 * pair, 32 * pair, seed);
    sum += mix_16(data + length - 16 * (pair + 1), 32 * pair + 16, seed);
  }
  return avalanche(sum);
}

[[nodiscard]] KVTIER_DEVICE std::uint64_t hash_129_to_240(const std::uint8_t* data, std::size_t length,
                                                          std::uint64_t seed) noexcept {
  std::uint64_t sum = length * kPrime64_1;
  KVTIER_ROLLED
  for (std::size_t i = 0; i < 8; ++i) sum += mix_16(data + 16 * i, 16 * i, seed);
  sum = avalanche(sum);
  KVTIER_ROLLED
  for (std::size_t i = 8; i < length / 16; ++i) sum += mix_16(data + 16 * i, 16 * (i - 8) + kMiddleSecret, seed);
  sum += mix_16(data + length - 16, kMiddleLastSecret, seed);
  return avalanche(sum);
}

// The hash of at most kShortBytes bytes.
[[nodiscard]] KVTIER_DEVICE_CALL std::uint64_t hash_short(const std::uint8_t* data, std::size_t length,
                                                          std::uint64_t seed) noexcept {
  if (length > 128) return hash_129_to_240(data, length, seed);
  if (length > 16) return hash_17_to_128(data, length, seed);
  if (length > 8) return hash_9_to_16(data, length, seed);
  if (length > 3) return hash_4_to_8(data, length, seed);
  if (length > 0) return avalanche_64(pack_1_to_3(data, length) ^ (secret_xor_32(0, 4) + seed));
  return avalanche_64(seed ^ secret_xor_64(56, 64));
}

}  // namespace kvtier::xxh3
