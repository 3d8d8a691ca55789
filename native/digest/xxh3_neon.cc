// The NEON form of XXH3's accumulation; every 64-bit ARM processor has it. Any thread.
#include "digest/xxh3_internal.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include <algorithm>

namespace kvtier::xxh3 {
namespace {

[[nodiscard]] inline uint64x2_t load(const std::uint8_t* from) noexcept {
  return vreinterpretq_u64_u8(vld1q_u8(from));
}

// Each lane: the neighbour's data, and the product of the two halves of data ^ secret.
[[nodiscard]] inline uint64x2_t add_lanes(uint64x2_t sum, const std::uint8_t* data,
                                          const std::uint8_t* secret) noexcept {
  const uint64x2_t words = load(data);
  const uint64x2_t keyed = veorq_u64(words, load(secret));
  const uint64x2_t with_neighbours = vaddq_u64(sum, vextq_u64(words, words, 1));
  return vmlal_u32(with_neighbours, vmovn_u64(keyed), vshrn_n_u64(keyed, 32));
}

[[nodiscard]] inline uint64x2_t scramble(uint64x2_t sum, const std::uint8_t* secret) noexcept {
  const uint32x2_t prime = vdup_n_u32(static_cast<std::uint32_t>(kPrime32_1));
  const uint64x2_t keyed = veorq_u64(veorq_u64(sum, vshrq_n_u64(sum, 47)), load(secret));
  const uint64x2_t high = vshlq_n_u64(vmull_u32(vshrn_n_u64(keyed, 32), prime), 32);
  return vmlal_u32(high, vmovn_u64(keyed), prime);
}

}  // namespace

std::size_t accumulate_neon(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                            const std::uint8_t* secret, std::size_t stripe_in_block) noexcept {
  uint64x2_t sums[4];
  for (std::size_t i = 0; i < 4; ++i) sums[i] = vld1q_u64(accumulators + 2 * i);
  while (stripe_count > 0) {
    const std::size_t run = std::min(stripe_count, kStripesPerBlock - stripe_in_block);
    const std::uint8_t* const end = data + run * kStripeBytes;
    for (const std::uint8_t* key = secret + 8 * stripe_in_block; data != end; data += kStripeBytes, key += 8) {
      for (std::size_t i = 0; i < 4; ++i) sums[i] = add_lanes(sums[i], data + 16 * i, key + 16 * i);
    }
    stripe_count -= run;
    stripe_in_block += run;
    if (stripe_in_block == kStripesPerBlock) {
      for (std::size_t i = 0; i < 4; ++i) sums[i] = scramble(sums[i], secret + kScrambleSecret + 16 * i);
      stripe_in_block = 0;
    }
  }
  for (std::size_t i = 0; i < 4; ++i) vst1q_u64(accumulators + 2 * i, sums[i]);
  return stripe_in_block;
}

}  // namespace kvtier::xxh3

#endif
