// The ways in which copies can be queued, and a table that says which of them a copy takes by its direction and size.
// Plain values. Any thread.
#pragma once

#include <array>
#include <cstdint>

namespace kvtier {

// Columns: C++ name, public name. The order is the numbering of CopyChoices.
#define KVTIER_COPY_STRATEGIES(X)                                                               \
  X(kSingle, "single")       /* one asynchronous copy a run that is contiguous on both sides */ \
  X(kRectangle, "rectangle") /* one two-dimensional copy a rectangle */                         \
  X(kBatch, "batch")         /* batch copies of at most 4,096 runs */                           \
  X(kKernel, "kernel")       /* a kernel between device memory and mapped pinned host memory */ \
  X(kStaged, "staged")       /* a kernel between device memory and a staging buffer there, and few copies */

enum class CopyStrategy : std::uint8_t {
#define KVTIER_COPY_STRATEGY_NAME(name, text) name,
  KVTIER_COPY_STRATEGIES(KVTIER_COPY_STRATEGY_NAME)
#undef KVTIER_COPY_STRATEGY_NAME
};
inline constexpr unsigned kCopyStrategyCount = 0
#define KVTIER_COPY_STRATEGY_ONE(name, text) +1
    KVTIER_COPY_STRATEGIES(KVTIER_COPY_STRATEGY_ONE)
#undef KVTIER_COPY_STRATEGY_ONE
    ;

// "single", "rectangle" and so on.
[[nodiscard]] const char* name_of(CopyStrategy strategy) noexcept;
// Whether a kernel takes part, which runs on the GPU's multiprocessors instead of its copy engines.
[[nodiscard]] bool uses_kernels(CopyStrategy strategy) noexcept;
// Its bit in a set of strategies.
[[nodiscard]] constexpr std::uint32_t bit_of(CopyStrategy strategy) noexcept {
  return std::uint32_t{1} << static_cast<unsigned>(strategy);
}

// Sizes of a run, bucket i: from 1 KiB << i, the first also below, the last also above. Numbers of runs, bucket j: from
// 4^j, the last also above.
inline constexpr unsigned kCopySizeBuckets = 15;  // 1 KiB to 16 MiB
inline constexpr unsigned kCopyCountBuckets = 9;  // 1 to 65,536
[[nodiscard]] unsigned copy_size_bucket(std::uint64_t run_bytes) noexcept;
[[nodiscard]] unsigned copy_count_bucket(std::uint64_t runs) noexcept;
// What a bucket begins with.
[[nodiscard]] constexpr std::uint64_t bytes_of_bucket(unsigned size) noexcept {
  return std::uint64_t{1024} << size;
}
[[nodiscard]] constexpr std::uint64_t runs_of_bucket(unsigned count) noexcept {
  return std::uint64_t{1} << (2 * count);
}

// Which strategy a copy takes. One that cannot be used falls back when it is queued.
struct CopyChoices {
  // [to_device][size][count]
  std::array<std::array<std::array<CopyStrategy, kCopyCountBuckets>, kCopySizeBuckets>, 2> table{};

  [[nodiscard]] CopyStrategy at(bool to_device, std::uint64_t run_bytes, std::uint64_t runs) const noexcept {
    return table[to_device ? 1 : 0][copy_size_bucket(run_bytes)][copy_count_bucket(runs)];
  }
  // What is right on most devices, before anything was measured: from the device by copy engines always; to the device
  // by them from 32 KiB a run on, below that by a kernel from 16 runs on.
  [[nodiscard]] static CopyChoices defaults() noexcept;

  friend bool operator==(const CopyChoices&, const CopyChoices&) = default;
};

}  // namespace kvtier
