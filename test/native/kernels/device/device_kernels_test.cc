// Loading the kernels and launching them on the simulated driver: what is refused, what fails, and that nothing is
// left.
#include "kernels/device/device_kernels.h"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "native/kernels/device/kernel_world.h"

using kvtier::Code;
using kvtier::DeviceImages;
using kvtier::DeviceKernels;
using kvtier::KernelFragment;
using kvtier::KernelSlots;
using kvtier::LeafHashes;
using kvtier::SlotCopy;
using kvtier::cuda::Error;
using kvtier::sim::has;
using kvtier::sim::images_for_sim;
using kvtier::sim::KernelWorld;

namespace {

constexpr int kFunctions = 6;

// The simulated driver counts what is alive; kernels are one module.
void check_modules(const KernelWorld& kernel_world, std::uint64_t count) {
  CHECK(kernel_world.world.sim.count("modules") == count);
}

struct SmallCopy {
  std::array<KernelFragment, 1> fragments;
  std::array<KernelSlots, 1> slots{{{0, 0}}};

  [[nodiscard]] SlotCopy copy(std::uint64_t host) const {
    return {.fragments = fragments,
            .fragment_bytes = 64,
            .device_step = 64,
            .host_base = host,
            .host_stride = 64,
            .slots = slots,
            .to_device = false};
  }
};

}  // namespace

TEST_CASE("a build without kernels says so") {
  const KernelWorld kernel_world;
  const auto kernels = DeviceKernels::load(kernel_world.context, DeviceImages{});
  CHECK(kernels.status().code() == Code::kUnsupported);
  CHECK(has(kernels.status().message(), "made without CUDA's nvcc"));
}

TEST_CASE("a build has kernels exactly where it has nvcc") {
  const DeviceImages images = kvtier::device_images();
  CHECK((images.code != nullptr) == (KVTIER_CUDA == 1));
  CHECK((images.ptx != nullptr) == (KVTIER_CUDA == 1));
}

TEST_CASE("kernels are loaded and unloaded in their own context, whatever the thread's is, and it stays what it was") {
  const KernelWorld kernel_world;
  const auto& world = kernel_world.world;
  for (const kvtier::cuda::Context other : {world.retain(1), kvtier::cuda::Context{nullptr}}) {
    REQUIRE(world.cuda.ctx_set_current(other) == Error::kSuccess);
    {
      const auto kernels = kernel_world.loaded();
      check_modules(kernel_world, 1);
    }
    check_modules(kernel_world, 0);
    kvtier::cuda::Context current = nullptr;
    REQUIRE(world.cuda.ctx_get_current(&current) == Error::kSuccess);
    CHECK(current == other);
  }
}

TEST_CASE("a driver that does not take the code is given the PTX") {
  const KernelWorld kernel_world;
  kernel_world.world.sim.fail_call("cuModuleLoadData", 1, static_cast<int>(Error::kNoBinaryForGpu), 1);
  const auto kernels = kernel_world.load();
  REQUIRE(kernels.is_ok());
  CHECK(kernel_world.world.sim.calls("cuModuleLoadData") == 2);
  check_modules(kernel_world, 1);
}

TEST_CASE("kernels that no driver takes are unsupported, with the driver's reason") {
  const KernelWorld kernel_world;
  kernel_world.world.sim.fail_call("cuModuleLoadData", 1, static_cast<int>(Error::kUnsupportedPtxVersion), 0);
  const auto kernels = kernel_world.load();
  CHECK(kernels.status().code() == Code::kUnsupported);
  CHECK(has(kernels.status().message(), "cuModuleLoadData on device 0: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"));
  // A driver that is out of memory has no kernels either.
  kernel_world.world.sim.fail_call("cuModuleLoadData", 1, static_cast<int>(Error::kOutOfMemory), 0);
  CHECK(kernel_world.load().status().code() == Code::kUnsupported);
  check_modules(kernel_world, 0);
}

TEST_CASE("an image that is refused is followed by the other one, and the last refusal is told") {
  const KernelWorld kernel_world("version=12040 capability=8.0");
  static constexpr char kNonsense[] = "no image";
  static constexpr char kNewPtx[] = ".version 9.0\n.target sm_75\n";
  const auto kernels = DeviceKernels::load(kernel_world.context, {kNonsense, kNewPtx});
  CHECK(kernels.status().code() == Code::kUnsupported);
  CHECK(has(kernels.status().message(), "UNSUPPORTED_PTX_VERSION"));
  CHECK(DeviceKernels::load(kernel_world.context, {kNonsense, images_for_sim().code}).is_ok());
}

TEST_CASE("each call that loading makes fails in turn, and nothing stays loaded") {
  const KernelWorld kernel_world;
  for (int nth = 1; nth <= kFunctions; ++nth) {
    CAPTURE(nth);
    kernel_world.world.sim.fail_call("cuModuleGetFunction", static_cast<std::uint64_t>(nth),
                                     static_cast<int>(Error::kNotFound), 1);
    const auto kernels = kernel_world.load();
    CHECK(kernels.status().code() == Code::kUnsupported);
    CHECK(has(kernels.status().message(), "cuModuleGetFunction of kvtier_"));
    check_modules(kernel_world, 0);
  }
  REQUIRE(kernel_world.world.cuda.ctx_set_current(nullptr) == Error::kSuccess);
  for (const char* function : {"cuCtxGetCurrent", "cuCtxSetCurrent"}) {
    kernel_world.world.sim.fail_call(function, 1, static_cast<int>(Error::kInvalidContext), 1);
    CHECK(kernel_world.load().status().code() == Code::kIo);
    check_modules(kernel_world, 0);
  }
}

TEST_CASE("a lost device is told apart from one that has no kernels") {
  for (const char* function : {"cuModuleLoadData", "cuModuleGetFunction"}) {
    const KernelWorld kernel_world;
    kernel_world.world.sim.fail_call(function, 1, static_cast<int>(Error::kIllegalAddress), 1);
    CHECK(kernel_world.load().status().code() == Code::kDeviceLost);
    // The PTX is not tried on it.
    CHECK(kernel_world.world.sim.calls("cuModuleLoadData") == 1);
    check_modules(kernel_world, 0);
  }
}

TEST_CASE("a launch that fails is the caller's failure, and later ones are not queued") {
  const KernelWorld kernel_world("hold=1");
  const auto& world = kernel_world.world;
  const auto kernels = kernel_world.loaded();
  const auto stream = world.stream();
  constexpr std::uint32_t kSlots = 2000;
  kvtier::sim::Pinned host(64 * kSlots);
  const SmallCopy small{{{{world.allocate(64 * kSlots), 0}}}};
  world.sim.fail_call("cuLaunchKernel", 1, static_cast<int>(Error::kLaunchOutOfResources), 1);
  const auto failed = kernels->copy_slots(small.copy(host.address()), 1, stream);
  CHECK(failed.code() == Code::kIo);
  CHECK(has(failed.message(), "cuLaunchKernel of kvtier_copy_slots_16: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"));
  const std::array<LeafHashes, 1> payloads{
      {{.payload = world.allocate(64), .part_bytes = 64, .result = host.address()}}};
  world.sim.fail_call("cuLaunchKernel", 1, static_cast<int>(Error::kLaunchFailed), 1);
  const auto lost = kernels->hash_leaves(payloads, stream);
  CHECK(lost.code() == Code::kDeviceLost);
  CHECK(has(lost.message(), "cuLaunchKernel of kvtier_hash_leaves_16"));
  CHECK(world.sim.pending(stream) == 0);
  // The second of several launches.
  std::vector<KernelSlots> slots(kSlots);
  for (std::uint32_t i = 0; i < slots.size(); ++i) slots[i] = {i, i};
  SlotCopy large = small.copy(host.address());
  large.slots = slots;
  world.sim.fail_call("cuLaunchKernel", 2, static_cast<int>(Error::kUnknown), 1);
  CHECK(kernels->copy_slots(large, 1, stream).code() == Code::kIo);
  CHECK(world.sim.pending(stream) == 1);
  world.sim.fail_work("kernel", 1, static_cast<int>(Error::kLaunchFailed));
  world.sim.release();
  CHECK(world.cuda.stream_synchronize(stream) == Error::kLaunchFailed);
  world.sim.clear_violations();
}

TEST_CASE("what a launch was given may go at once") {
  const KernelWorld kernel_world("hold=1");
  const auto& world = kernel_world.world;
  const auto kernels = kernel_world.loaded();
  const auto stream = world.stream();
  kvtier::sim::Pinned host(64);
  {
    SmallCopy small{{{{world.allocate(64, 9), 0}}}};
    REQUIRE(kernels->copy_slots(small.copy(host.address()), 1, stream).is_ok());
    small.fragments = {{{0, 1 << 20}}};
    small.slots = {{{77, 77}}};
  }
  CHECK(host.count(9) == 0);
  world.sim.release();
  REQUIRE(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  CHECK(host.count(9) == 64);
}

TEST_CASE("the device is lost when a kernel leaves its memory") {
  const KernelWorld kernel_world;
  const auto& world = kernel_world.world;
  const auto kernels = kernel_world.loaded();
  const auto stream = world.stream();
  kvtier::sim::Pinned host(64);
  const SmallCopy small{{{{world.allocate(63), 0}}}};
  REQUIRE(kernels->copy_slots(small.copy(host.address()), 1, stream).is_ok());
  CHECK(world.cuda.stream_synchronize(stream) == Error::kIllegalAddress);
  CHECK(kernels->copy_slots(small.copy(host.address()), 1, stream).code() == Code::kDeviceLost);
  world.sim.clear_violations();
}
