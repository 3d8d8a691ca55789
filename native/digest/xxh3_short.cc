// XXH3 of at most 240 bytes: each class of length has its own form, without accumulators. Any thread.
#include "digest/xxh3_internal.h"

namespace kvtier::xxh3 {

// The published default secret.
alignas(64) const std::array<std::uint8_t, kSecretBytes> kDefaultSecret = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4,
    0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
    0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43,
    0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19,
    0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
    0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78,
    0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16,
    0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

namespace {

// Where the second half of the 129..240 byte forms and their last step read the secret.
constexpr std::size_t kMiddleSecret = 3;
constexpr std::size_t kMiddleLastSecret = 136 - 17;

[[nodiscard]] std::uint64_t secret_64(std::size_t offset) noexcept {
  return read_64(kDefaultSecret.data() + offset);
}
[[nodiscard]] std::uint64_t secret_xor_64(std::size_t first, std::size_t second) noexcept {
  return secret_64(first) ^ secret_64(second);
}
[[nodiscard]] std::uint64_t secret_xor_32(std::size_t first, std::size_t second) noexcept {
  return read_32(kDefaultSecret.data() + first) ^ read_32(kDefaultSecret.data() + second);
}

// The finish of XXH64, which the shortest inputs take.
[[nodiscard]] std::uint64_t avalanche_64(std::uint64_t hash) noexcept {
  hash ^= hash >> 33;
  hash *= kPrime64_2;
  hash ^= hash >> 29;
  hash *= kPrime64_3;
  return hash ^ (hash >> 32);
}

// 1 to 3 bytes and their number in one word.
[[nodiscard]] std::uint32_t pack_1_to_3(const std::uint8_t* data, std::size_t length) noexcept {
  return std::uint32_t{data[0]} << 16 | std::uint32_t{data[length >> 1]} << 24 | std::uint32_t{data[length - 1]} |
         static_cast<std::uint32_t>(length) << 8;
}

// What 4 to 8 bytes do to their seed first.
[[nodiscard]] std::uint64_t spread_seed(std::uint64_t seed) noexcept {
  return seed ^ std::uint64_t{swap_32(static_cast<std::uint32_t>(seed))} << 32;
}

[[nodiscard]] std::uint64_t mix_16(const std::uint8_t* data, std::size_t secret, std::uint64_t seed) noexcept {
  return multiply_fold(read_64(data) ^ (secret_64(secret) + seed), read_64(data + 8) ^ (secret_64(secret + 8) - seed));
}

void mix_32(Hash128& sum, const std::uint8_t* first, const std::uint8_t* second, std::size_t secret,
            std::uint64_t seed) noexcept {
  sum.low += mix_16(first, secret, seed);
  sum.low ^= read_64(second) + read_64(second + 8);
  sum.high += mix_16(second, secret + 16, seed);
  sum.high ^= read_64(first) + read_64(first + 8);
}

std::uint64_t hash_4_to_8(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  const std::uint64_t word = read_32(data + length - 4) + (std::uint64_t{read_32(data)} << 32);
  std::uint64_t hash = word ^ (secret_xor_64(8, 16) - spread_seed(seed));
  hash ^= std::rotl(hash, 49) ^ std::rotl(hash, 24);
  hash *= kMix_2;
  hash ^= (hash >> 35) + length;
  hash *= kMix_2;
  return hash ^ (hash >> 28);
}

std::uint64_t hash_9_to_16(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  const std::uint64_t low = read_64(data) ^ (secret_xor_64(24, 32) + seed);
  const std::uint64_t high = read_64(data + length - 8) ^ (secret_xor_64(40, 48) - seed);
  return avalanche(length + swap_64(low) + high + multiply_fold(low, high));
}

std::uint64_t hash_17_to_128(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  std::uint64_t sum = length * kPrime64_1;
  // Pairs of 16 bytes from both ends towards the middle.
  for (std::size_t pair = 0; pair <= (length - 1) / 32; ++pair) {
    sum += mix_16(data + 16 * pair, 32 * pair, seed);
    sum += mix_16(data + length - 16 * (pair + 1), 32 * pair + 16, seed);
  }
  return avalanche(sum);
}

std::uint64_t hash_129_to_240(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  std::uint64_t sum = length * kPrime64_1;
  for (std::size_t i = 0; i < 8; ++i) sum += mix_16(data + 16 * i, 16 * i, seed);
  sum = avalanche(sum);
  for (std::size_t i = 8; i < length / 16; ++i) sum += mix_16(data + 16 * i, 16 * (i - 8) + kMiddleSecret, seed);
  sum += mix_16(data + length - 16, kMiddleLastSecret, seed);
  return avalanche(sum);
}

Hash128 hash_1_to_3_wide(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  const std::uint32_t low = pack_1_to_3(data, length);
  const std::uint32_t high = std::rotl(swap_32(low), 13);
  return {avalanche_64(low ^ (secret_xor_32(0, 4) + seed)), avalanche_64(high ^ (secret_xor_32(8, 12) - seed))};
}

Hash128 hash_4_to_8_wide(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  const std::uint64_t word = read_32(data) + (std::uint64_t{read_32(data + length - 4)} << 32);
  Hash128 hash = multiply(word ^ (secret_xor_64(16, 24) + spread_seed(seed)), kPrime64_1 + (length << 2));
  hash.high += hash.low << 1;
  hash.low ^= hash.high >> 3;
  hash.low ^= hash.low >> 35;
  hash.low *= kMix_2;
  hash.low ^= hash.low >> 28;
  hash.high = avalanche(hash.high);
  return hash;
}

Hash128 hash_9_to_16_wide(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  const std::uint64_t low = read_64(data);
  const std::uint64_t last = read_64(data + length - 8);
  Hash128 inner = multiply(low ^ last ^ (secret_xor_64(32, 40) - seed), kPrime64_1);
  inner.low += static_cast<std::uint64_t>(length - 1) << 54;
  const std::uint64_t high = last ^ (secret_xor_64(48, 56) + seed);
  inner.high += high + (high & 0xFFFFFFFFU) * (kPrime32_2 - 1);
  inner.low ^= swap_64(inner.high);
  const Hash128 outer = multiply(inner.low, kPrime64_2);
  return {avalanche(outer.low), avalanche(outer.high + inner.high * kPrime64_2)};
}

// The common end of the 17..240 byte forms.
Hash128 finish_wide(const Hash128& sum, std::size_t length, std::uint64_t seed) noexcept {
  const std::uint64_t low = sum.low + sum.high;
  const std::uint64_t high = sum.low * kPrime64_1 + sum.high * kPrime64_4 + (length - seed) * kPrime64_2;
  return {avalanche(low), std::uint64_t{0} - avalanche(high)};
}

Hash128 hash_17_to_128_wide(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  Hash128 sum{length * kPrime64_1, 0};
  // Unlike the 64-bit sum this one depends on the order: from the middle outwards.
  for (std::size_t pair = (length - 1) / 32 + 1; pair-- > 0;) {
    mix_32(sum, data + 16 * pair, data + length - 16 * (pair + 1), 32 * pair, seed);
  }
  return finish_wide(sum, length, seed);
}

Hash128 hash_129_to_240_wide(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  Hash128 sum{length * kPrime64_1, 0};
  for (std::size_t i = 0; i < 4; ++i) mix_32(sum, data + 32 * i, data + 32 * i + 16, 32 * i, seed);
  sum = {avalanche(sum.low), avalanche(sum.high)};
  for (std::size_t i = 4; i < length / 32; ++i) {
    mix_32(sum, data + 32 * i, data + 32 * i + 16, 32 * (i - 4) + kMiddleSecret, seed);
  }
  mix_32(sum, data + length - 16, data + length - 32, kMiddleLastSecret - 16, std::uint64_t{0} - seed);
  return finish_wide(sum, length, seed);
}

}  // namespace

std::uint64_t short_64(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  if (length > 128) return hash_129_to_240(data, length, seed);
  if (length > 16) return hash_17_to_128(data, length, seed);
  if (length > 8) return hash_9_to_16(data, length, seed);
  if (length > 3) return hash_4_to_8(data, length, seed);
  if (length > 0) return avalanche_64(pack_1_to_3(data, length) ^ (secret_xor_32(0, 4) + seed));
  return avalanche_64(seed ^ secret_xor_64(56, 64));
}

Hash128 short_128(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
  if (length > 128) return hash_129_to_240_wide(data, length, seed);
  if (length > 16) return hash_17_to_128_wide(data, length, seed);
  if (length > 8) return hash_9_to_16_wide(data, length, seed);
  if (length > 3) return hash_4_to_8_wide(data, length, seed);
  if (length > 0) return hash_1_to_3_wide(data, length, seed);
  return {avalanche_64(seed ^ secret_xor_64(64, 72)), avalanche_64(seed ^ secret_xor_64(80, 88))};
}

}  // namespace kvtier::xxh3
