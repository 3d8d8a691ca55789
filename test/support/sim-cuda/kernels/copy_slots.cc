// The host forms of the copying kernels. A host form's thread.
#include "kernels/device/copy_slots.h"

#include "support/sim-cuda/kernels/host_lanes.h"
#include "support/sim-cuda/sim_kernel.h"

namespace kvtier::sim {
namespace {

template <unsigned kUnitBytes>
void copy_slots(const LaunchShape& shape, device::CopyLaunch launch) {
  const HostLanes lanes(launch.lanes);
  const std::uint32_t of_block = shape.block_x / launch.lanes;
  for (std::uint64_t block = shape.block_begin; block < shape.block_end; ++block) {
    for (std::uint32_t group = 0; group < of_block; ++group) {
      device::copy_pieces<kUnitBytes>(launch, static_cast<std::uint32_t>(block) * of_block + group,
                                      shape.grid_x * of_block, lanes);
    }
  }
}

const RegisterKernel<&copy_slots<16>> kCopy16("kvtier_copy_slots_16");
const RegisterKernel<&copy_slots<8>> kCopy8("kvtier_copy_slots_8");
const RegisterKernel<&copy_slots<4>> kCopy4("kvtier_copy_slots_4");
const RegisterKernel<&copy_slots<1>> kCopy1("kvtier_copy_slots_1");

}  // namespace
}  // namespace kvtier::sim
