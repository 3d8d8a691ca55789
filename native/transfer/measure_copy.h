// How fast this machine copies memory that no cache holds: the limit that copies of blocks are compared with. One
// thread; takes tens of milliseconds to seconds.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace kvtier {

inline constexpr std::uint64_t kMaxMeasureBytes = std::uint64_t{1} << 34;
inline constexpr std::uint64_t kMinFragmentBytes = 64;
inline constexpr std::uint64_t kMaxFragmentBytes = std::uint64_t{128} << 20;

// GB/s (1e9 bytes) of plain memcpy, one thread, in fragments of this size that are scattered over a working set of up
// to 256 MiB, or `total_bytes` when that is less; the median of at least three rounds, `total_bytes` in all. Fails with
// kOutOfMemory, kInvalidValue (a size lies outside these limits, or the fragment is larger than the total).
[[nodiscard]] Result<double> measure_copy(std::uint64_t total_bytes, std::uint64_t fragment_bytes);

}  // namespace kvtier
