// The host forms of the hashing kernels. A host form's thread.
#include "kernels/device/hash_leaves.h"

#include "support/sim-cuda/kernels/host_lanes.h"
#include "support/sim-cuda/sim_kernel.h"

namespace kvtier::sim {
namespace {

template <unsigned kUnitBytes>
void hash_leaves(const LaunchShape& shape, device::HashLaunch launch) {
  const HostLanes lanes(device::kWarpLanes);
  for (std::uint64_t block = shape.block_begin; block < shape.block_end; ++block) {
    device::hash_leaves<kUnitBytes>(launch, static_cast<std::uint32_t>(block), shape.grid_x, lanes);
  }
}

const RegisterKernel<&hash_leaves<16>> kHash16("kvtier_hash_leaves_16");
const RegisterKernel<&hash_leaves<1>> kHash1("kvtier_hash_leaves_1");

}  // namespace
}  // namespace kvtier::sim
