// Compiled with -mavx2 on x86-64. It includes nothing whose inline functions another file might share: the linker keeps
// one copy of those, and it could be the one that an older processor cannot run.
#include "kernels/copy_avx2.h"

#include <immintrin.h>

#if !defined(__AVX2__)
#error "this file is compiled with -mavx2"
#endif

namespace kvtier {
namespace {

constexpr std::size_t kVectorBytes = 32;
constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kStepBytes = 4 * kVectorBytes;

// Non-temporal stores of a whole line leave in one burst; lines that are only partly ours get ordinary stores.
void stream(std::byte* target, const std::byte* source, std::size_t length) noexcept {
  const std::size_t past_line = reinterpret_cast<std::size_t>(target) % kLineBytes;
  const std::size_t head = past_line == 0 ? 0 : kLineBytes - past_line;
  if (length < head + kLineBytes) {
    __builtin_memcpy(target, source, length);
    return;
  }
  if (head != 0) {
    __builtin_memcpy(target, source, head);
    target += head;
    source += head;
    length -= head;
  }
  for (; length >= kStepBytes; length -= kStepBytes, target += kStepBytes, source += kStepBytes) {
    const auto* from = reinterpret_cast<const __m256i*>(source);
    auto* to = reinterpret_cast<__m256i*>(target);
    const __m256i a = _mm256_loadu_si256(from);
    const __m256i b = _mm256_loadu_si256(from + 1);
    const __m256i c = _mm256_loadu_si256(from + 2);
    const __m256i d = _mm256_loadu_si256(from + 3);
    _mm256_stream_si256(to, a);
    _mm256_stream_si256(to + 1, b);
    _mm256_stream_si256(to + 2, c);
    _mm256_stream_si256(to + 3, d);
  }
  if (length != 0) __builtin_memcpy(target, source, length);
}

void fence() noexcept {
  _mm_sfence();
}

}  // namespace

constinit const StreamingCopy kAvx2StreamingCopy{stream, fence};

}  // namespace kvtier
