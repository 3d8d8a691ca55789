// What the tests of the device's kernels share: a simulated machine, the kernels loaded into its first device, and
// images that the simulated driver takes whether the build has an nvcc or not. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kernels/device/device_kernels.h"
#include "native/support/sim-cuda/sim_world.h"
#include "platform/cuda/cuda_driver.h"

namespace kvtier::sim {

// The build's, and where there are none what looks like them: the simulator has the kernels' host forms.
inline DeviceImages images_for_sim() {
  static constexpr char kCode[] = "\x50\xED\x55\xBA and the rest";
  static constexpr char kPtx[] =
      ".version 7.4\n.target sm_75\nkvtier_copy_slots_16 kvtier_copy_slots_8 kvtier_copy_slots_4 kvtier_copy_slots_1 "
      "kvtier_hash_leaves_16 kvtier_hash_leaves_1\n";
  const DeviceImages built = device_images();
  return built.code != nullptr ? built : DeviceImages{kCode, kPtx};
}

class KernelWorld {
 public:
  explicit KernelWorld(const char* settings = nullptr) : world(settings) {
    auto retained = CudaContext::retain(CudaDriver::get(world.sim.library.path()), 0);
    REQUIRE(retained.is_ok());
    context = std::move(retained).value();
  }

  [[nodiscard]] Result<std::unique_ptr<DeviceKernels>> load() const {
    return DeviceKernels::load(context, images_for_sim());
  }
  [[nodiscard]] std::unique_ptr<DeviceKernels> loaded() const {
    auto kernels = load();
    REQUIRE_MESSAGE(kernels.is_ok(), kernels.status().message());
    return std::move(kernels).value();
  }

  const World world;
  std::shared_ptr<const CudaContext> context;
};

template <typename Byte>
std::vector<Byte> random_bytes(std::mt19937_64& random, std::size_t count) {
  std::vector<Byte> bytes(count);
  for (Byte& byte : bytes) byte = static_cast<Byte>(random());
  return bytes;
}

}  // namespace kvtier::sim
