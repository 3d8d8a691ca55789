// The AVX2 form of XXH3's accumulation; compiled with -mavx2 and called only where the processor has it. It uses no
// inline function of another header, for the linker might keep this file's AVX2 copy of it for everybody. Any thread.
#include "digest/xxh3_internal.h"

#if defined(__x86_64__)

#if !defined(__AVX2__)
#error "this file is compiled with -mavx2"
#endif

#include <immintrin.h>

namespace kvtier::xxh3 {
namespace {

[[nodiscard]] inline __m256i load(const std::uint8_t* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// Each lane: the neighbour's data, and the product of the two halves of data ^ secret.
[[nodiscard]] inline __m256i add_lanes(__m256i sum, const std::uint8_t* data, const std::uint8_t* secret) noexcept {
  const __m256i words = load(data);
  const __m256i keyed = _mm256_xor_si256(words, load(secret));
  const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
  const __m256i neighbours = _mm256_shuffle_epi32(words, _MM_SHUFFLE(1, 0, 3, 2));
  return _mm256_add_epi64(sum, _mm256_add_epi64(product, neighbours));
}

[[nodiscard]] inline __m256i scramble(__m256i sum, const std::uint8_t* secret) noexcept {
  const __m256i prime = _mm256_set1_epi32(static_cast<int>(kPrime32_1));
  const __m256i keyed = _mm256_xor_si256(_mm256_xor_si256(sum, _mm256_srli_epi64(sum, 47)), load(secret));
  const __m256i low = _mm256_mul_epu32(keyed, prime);
  const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(keyed, 32), prime);
  return _mm256_add_epi64(low, _mm256_slli_epi64(high, 32));
}

}  // namespace

std::size_t accumulate_avx2(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                            const std::uint8_t* secret, std::size_t stripe_in_block) noexcept {
  __m256i* const sums = reinterpret_cast<__m256i*>(accumulators);
  __m256i first = _mm256_load_si256(sums);
  __m256i second = _mm256_load_si256(sums + 1);
  while (stripe_count > 0) {
    const std::size_t room = kStripesPerBlock - stripe_in_block;
    const std::size_t run = stripe_count < room ? stripe_count : room;
    const std::uint8_t* const end = data + run * kStripeBytes;
    for (const std::uint8_t* key = secret + 8 * stripe_in_block; data != end; data += kStripeBytes, key += 8) {
      first = add_lanes(first, data, key);
      second = add_lanes(second, data + 32, key + 32);
    }
    stripe_count -= run;
    stripe_in_block += run;
    if (stripe_in_block == kStripesPerBlock) {
      first = scramble(first, secret + kScrambleSecret);
      second = scramble(second, secret + kScrambleSecret + 32);
      stripe_in_block = 0;
    }
  }
  _mm256_store_si256(sums, first);
  _mm256_store_si256(sums + 1, second);
  return stripe_in_block;
}

}  // namespace kvtier::xxh3

#endif
