// The kernels as nvcc compiles them: each is the body in a header, run by the threads of a GPU. The host finds them by
// name, and the simulated driver has host forms of the same bodies under the same names.
#include "kernels/device/copy_slots.h"
#include "kernels/device/hash_leaves.h"

namespace kvtier::device {
namespace {

// This thread, as one of the `count` neighbouring threads of its warp that work together.
class DeviceLanes {
 public:
  __device__ explicit DeviceLanes(std::uint32_t count) : count_(count), lane_(threadIdx.x % count) {}

  // A value that every thread has for itself.
  template <typename T>
  class PerLane {
   public:
    __device__ T& operator[](std::uint32_t) { return value_; }

   private:
    T value_;
  };

  __device__ std::uint32_t count() const { return count_; }

  template <typename Run>
  __device__ void each(Run run) const {
    run(lane_);
  }

  template <std::uint32_t kMask>
  __device__ void add_over(PerLane<std::uint64_t>& sums) const {
    add<kMask>(sums[0]);
  }
  template <std::uint32_t kMask>
  __device__ void add_over(PerLane<WordPair>& sums) const {
    add<kMask>(sums[0].first);
    add<kMask>(sums[0].second);
  }

 private:
  // Every thread of the warp must be here.
  template <std::uint32_t kMask>
  __device__ static void add(std::uint64_t& value) {
    KVTIER_UNROLL
    for (std::uint32_t bit = 1; bit < kWarpLanes; bit *= 2) {
      if ((kMask & bit) != 0) value += __shfl_xor_sync(0xFFFFFFFFU, value, static_cast<int>(bit));
    }
  }

  std::uint32_t count_;
  std::uint32_t lane_;
};

template <unsigned kUnitBytes>
__device__ void run_copy(const CopyLaunch& launch) {
  const DeviceLanes lanes(launch.lanes);
  const std::uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  copy_pieces<kUnitBytes>(launch, thread / launch.lanes, gridDim.x * blockDim.x / launch.lanes, lanes);
}

// A block is a warp: so the compiler knows that its threads go the same way.
template <unsigned kUnitBytes>
__device__ void run_hash(const HashLaunch& launch) {
  hash_leaves<kUnitBytes>(launch, blockIdx.x, gridDim.x, DeviceLanes(kWarpLanes));
}

}  // namespace
}  // namespace kvtier::device

#define KVTIER_COPY_KERNEL(unit)                                                            \
  extern "C" __global__ void __launch_bounds__(kvtier::device::kCopyThreads)                \
      kvtier_copy_slots_##unit(const __grid_constant__ kvtier::device::CopyLaunch launch) { \
    kvtier::device::run_copy<unit>(launch);                                                 \
  }
#define KVTIER_HASH_KERNEL(unit)                                                             \
  extern "C" __global__ void __launch_bounds__(kvtier::device::kWarpLanes, 16)               \
      kvtier_hash_leaves_##unit(const __grid_constant__ kvtier::device::HashLaunch launch) { \
    kvtier::device::run_hash<unit>(launch);                                                  \
  }

KVTIER_COPY_KERNEL(16)
KVTIER_COPY_KERNEL(8)
KVTIER_COPY_KERNEL(4)
KVTIER_COPY_KERNEL(1)
KVTIER_HASH_KERNEL(16)
KVTIER_HASH_KERNEL(1)
