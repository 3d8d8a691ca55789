// XXH3 of at most 240 bytes: each class of length has its own form, without accumulators. The 64-bit forms are in
// xxh3_steps.h, the 128-bit ones here. Any thread.
#include <bit>

#include "digest/xxh3_internal.h"

namespace kvtier::xxh3 {
namespace {

void mix_32(Hash128& sum, const std::uint8_t* first, const std::uint8_t* second, std::size_t secret,
            std::uint64_t seed) noexcept {
  sum.low += mix_16(first, secret, seed);
  sum.low ^= read_64(second) + read_64(second + 8);
  sum.high += mix_16(second, secret + 16, seed);
  sum.high ^= read_64(first) + read_64(first + 8);
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
  return hash_short(data, length, seed);
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
