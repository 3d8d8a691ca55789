// Copying with non-temporal stores: the target's old bytes are not read and the caches keep what they hold. Its source
// is compiled for AVX2 and only in builds for x86-64; call it only where the processor has AVX2. Any thread.
#pragma once

#include <cstddef>

namespace kvtier {

// Copies bytes that do not overlap; any alignment.
using CopyBytes = void (*)(std::byte* target, const std::byte* source, std::size_t length) noexcept;

struct StreamingCopy {
  CopyBytes copy;
  // After the last copy and before another thread is told: orders the non-temporal stores before later ones.
  void (*fence)() noexcept;
};

extern const StreamingCopy kAvx2StreamingCopy;

}  // namespace kvtier
