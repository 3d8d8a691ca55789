#include "transfer/device/copy_choices.h"

#include <algorithm>
#include <bit>

#include "core/check.h"

namespace kvtier {
namespace {

// Below it a copy engine spends most of its time between the copies.
constexpr std::uint64_t kEngineRunBytes = std::uint64_t{32} << 10;
// From here on a kernel's start is worth it.
constexpr std::uint64_t kKernelRuns = 16;
// From here on one batch is queued faster than as many copies.
constexpr std::uint64_t kBatchRuns = 4;

// How often a value that is not 0 can be halved.
unsigned log2_of(std::uint64_t value) noexcept {
  return static_cast<unsigned>(std::bit_width(value)) - 1;
}

CopyStrategy default_for(bool to_device, std::uint64_t run_bytes, std::uint64_t runs) noexcept {
  if (to_device && run_bytes < kEngineRunBytes)
    return runs >= kKernelRuns ? CopyStrategy::kKernel : CopyStrategy::kSingle;
  return runs >= kBatchRuns ? CopyStrategy::kBatch : CopyStrategy::kSingle;
}

}  // namespace

const char* name_of(CopyStrategy strategy) noexcept {
  switch (strategy) {
#define KVTIER_COPY_STRATEGY_TEXT(name, text) \
  case CopyStrategy::name:                    \
    return text;
    KVTIER_COPY_STRATEGIES(KVTIER_COPY_STRATEGY_TEXT)
#undef KVTIER_COPY_STRATEGY_TEXT
  }
  KVTIER_CHECK(false);
}

bool uses_kernels(CopyStrategy strategy) noexcept {
  switch (strategy) {
    case CopyStrategy::kSingle:
    case CopyStrategy::kRectangle:
    case CopyStrategy::kBatch:
      return false;
    case CopyStrategy::kKernel:
    case CopyStrategy::kStaged:
      return true;
  }
  KVTIER_CHECK(false);
}

unsigned copy_size_bucket(std::uint64_t run_bytes) noexcept {
  const std::uint64_t kibibytes = std::max<std::uint64_t>(run_bytes >> 10, 1);
  return std::min(log2_of(kibibytes), kCopySizeBuckets - 1);
}

unsigned copy_count_bucket(std::uint64_t runs) noexcept {
  return std::min(log2_of(std::max<std::uint64_t>(runs, 1)) / 2, kCopyCountBuckets - 1);
}

CopyChoices CopyChoices::defaults() noexcept {
  CopyChoices choices;
  for (const bool to_device : {false, true}) {
    for (unsigned size = 0; size < kCopySizeBuckets; ++size) {
      for (unsigned count = 0; count < kCopyCountBuckets; ++count) {
        choices.table[to_device ? 1 : 0][size][count] =
            default_for(to_device, bytes_of_bucket(size), runs_of_bucket(count));
      }
    }
  }
  return choices;
}

}  // namespace kvtier
