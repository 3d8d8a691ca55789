// Modules and kernels of the simulated driver: host forms that run late, in parts, and only where the device may reach.
#include <algorithm>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Function;
using kvtier::cuda::Module;
using kvtier::cuda::Stream;

constexpr char kElf[] =
    "\x7F"
    "ELF and the rest";
constexpr std::size_t kBlocks = 32;

struct Options {
  std::uint32_t bytes_a_block;
  unsigned char value;
};

// Every block fills its own range, 16 bytes at once.
void fill_host(const LaunchShape& shape, DevicePtr target, Options options) {
  if (target % 16 != 0) SimDriver::get().misaligned(target, 16);
  for (std::uint64_t block = shape.block_begin; block < shape.block_end; ++block) {
    auto* const bytes = static_cast<unsigned char*>(
        SimDriver::get().alias(target + block * options.bytes_a_block, options.bytes_a_block));
    std::fill(bytes, bytes + options.bytes_a_block, options.value);
  }
}

Function load(const World& world, const char* name) {
  using Form = HostForm<&fill_host>;
  world.sim.register_kernel("kvtier_test_fill", &Form::run, Form::kParameterBytes.data(), Form::kParameterBytes.size());
  Module module = nullptr;
  REQUIRE(world.cuda.module_load_data(&module, kElf) == Error::kSuccess);
  Function function = nullptr;
  REQUIRE(world.cuda.module_get_function(&function, module, name) == Error::kSuccess);
  return function;
}

Error launch(const World& world, Function function, DevicePtr target, Stream stream) {
  Options options{16, 7};
  void* parameters[] = {&target, &options};
  const Error error = world.cuda.launch_kernel(function, kBlocks, 1, 1, 128, 1, 1, 0, stream, parameters, nullptr);
  // The values were copied.
  options = {1, 1};
  target = 0;
  return error;
}

}  // namespace

TEST_CASE("sim-cuda: a kernel runs in stream order, block by block in a drawn order") {
  const World world("hold=1");
  const Function fill = load(world, "kvtier_test_fill");
  const DevicePtr device = world.allocate(16 * kBlocks, 0);
  const Stream stream = world.stream();
  REQUIRE(launch(world, fill, device, stream) == Error::kSuccess);
  CHECK(has(world.sim.next_text(stream), "kvtier_test_fill"));
  CHECK(world.read(device, 16 * kBlocks) == bytes_of(16 * kBlocks, 0));
  CHECK(world.sim.step_piece(stream) == 1);
  CHECK(world.read(device, 16 * kBlocks) != bytes_of(16 * kBlocks, 0));
  CHECK(world.read(device, 16 * kBlocks) != bytes_of(16 * kBlocks, 7));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(device, 16 * kBlocks) == bytes_of(16 * kBlocks, 7));
}

TEST_CASE("sim-cuda: a kernel reaches mapped host memory by its device address") {
  const World world("host_pointers=0");
  const Function fill = load(world, "kvtier_test_fill");
  Pinned host(16 * kBlocks);
  const Stream stream = world.stream();
  DevicePtr address = 0;
  REQUIRE(world.cuda.mem_host_get_device_pointer(&address, host.data(), 0) == Error::kSuccess);
  REQUIRE(launch(world, fill, address, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  CHECK(host.count(7) == host.size());
  // By the host's address it does not.
  REQUIRE(launch(world, fill, host.address(), stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kIllegalAddress);
  CHECK(world.sim.violations() >= 1);
  CHECK(has(world.sim.violation_text(), "host address"));
  world.sim.clear_violations();
}

TEST_CASE("sim-cuda: a kernel that leaves its memory faults its context") {
  const World world;
  const Function fill = load(world, "kvtier_test_fill");
  const DevicePtr device = world.allocate(16 * kBlocks - 1);
  const Stream stream = world.stream();
  REQUIRE(launch(world, fill, device, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kIllegalAddress);
  CHECK(has(world.violation(), "beyond the end"));
}

TEST_CASE("sim-cuda: a kernel that says its address is misaligned faults its context") {
  const World world;
  const Function fill = load(world, "kvtier_test_fill");
  const DevicePtr device = world.allocate(16 * kBlocks + 1);
  const Stream stream = world.stream();
  REQUIRE(launch(world, fill, device + 1, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kMisalignedAddress);
  CHECK(has(world.sim.violation_text(), "16 bytes at once at an address that is 1 bytes beyond"));
  world.sim.clear_violations();
}

TEST_CASE("sim-cuda: a kernel touches another device's memory with peer access alone") {
  const World world;
  const Function fill = load(world, "kvtier_test_fill");
  const Stream stream = world.stream();
  const auto second = world.retain(1);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  const DevicePtr remote = world.allocate(16 * kBlocks, 0);
  REQUIRE(world.cuda.ctx_set_current(world.context) == Error::kSuccess);
  REQUIRE(world.cuda.ctx_enable_peer_access(second, 0) == Error::kSuccess);
  REQUIRE(launch(world, fill, remote, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  const Function other = load(world, "kvtier_test_fill");
  const Stream other_stream = world.stream();
  REQUIRE(world.cuda.ctx_set_current(world.context) == Error::kSuccess);
  const DevicePtr local = world.allocate(16 * kBlocks, 0);
  CHECK(launch(world, other, local, other_stream) == Error::kInvalidHandle);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  CHECK(launch(world, other, local, stream) == Error::kInvalidHandle);
  REQUIRE(launch(world, other, local, other_stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(other_stream) == Error::kIllegalAddress);
  CHECK(has(world.sim.violation_text(), "without peer access"));
  world.sim.clear_violations();
}

TEST_CASE("sim-cuda: launches outside of a device's limits are refused") {
  const World world;
  const Function fill = load(world, "kvtier_test_fill");
  const Stream stream = world.stream();
  DevicePtr device = world.allocate(16);
  Options options{16, 7};
  void* parameters[] = {&device, &options};
  const auto& launch_kernel = world.cuda.launch_kernel;
  CHECK(launch_kernel(fill, 0, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr) == Error::kInvalidValue);
  CHECK(launch_kernel(fill, 1, 1, 1, 1024, 2, 1, 0, stream, parameters, nullptr) == Error::kInvalidValue);
  CHECK(launch_kernel(fill, 1, 65536, 1, 1, 1, 1, 0, stream, parameters, nullptr) == Error::kInvalidValue);
  CHECK(launch_kernel(fill, 1, 1, 1, 1, 1, 1, 1 << 20, stream, parameters, nullptr) == Error::kInvalidValue);
  CHECK(launch_kernel(fill, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr) == Error::kInvalidValue);
}

TEST_CASE("sim-cuda: a function goes with its module") {
  const World world;
  Module module = nullptr;
  Function function = nullptr;
  REQUIRE(load(world, "kvtier_test_fill") != nullptr);
  REQUIRE(world.cuda.module_load_data(&module, kElf) == Error::kSuccess);
  CHECK(world.cuda.module_get_function(&function, module, "kvtier_no_such_kernel") == Error::kNotFound);
  REQUIRE(world.cuda.module_get_function(&function, module, "kvtier_test_fill") == Error::kSuccess);
  CHECK(world.cuda.module_unload(module) == Error::kSuccess);
  CHECK(launch(world, function, 0, world.stream()) == Error::kInvalidHandle);
  CHECK(has(world.violation(), "module was unloaded"));
}

TEST_CASE("sim-cuda: an image is loaded or refused as a driver and a device of this age would") {
  const World world("version=12040 capability=8.0");
  const auto load_image = [&](const char* image) {
    Module module = nullptr;
    return world.cuda.module_load_data(&module, image);
  };
  CHECK(load_image("no image") == Error::kInvalidImage);
  CHECK(load_image("\x50\xED\x55\xBA") == Error::kSuccess);
  CHECK(load_image("//\n.version 7.0\n.target sm_75\n") == Error::kSuccess);
  CHECK(load_image("//\n.version 8.7\n.target sm_75\n") == Error::kUnsupportedPtxVersion);
  CHECK(load_image("//\n.version 8.0\n.target sm_90a\n") == Error::kNoBinaryForGpu);
}

TEST_CASE("sim-cuda: the alias of device memory is not where its pointer points") {
  const World world;
  const DevicePtr device = world.allocate(64, 5);
  const auto* alias = static_cast<const unsigned char*>(world.sim.alias(device, 64));
  REQUIRE(alias != nullptr);
  CHECK(reinterpret_cast<DevicePtr>(alias) != device);
  CHECK(alias[63] == 5);
  CHECK(world.sim.alias(device, 65) == nullptr);
  CHECK(has(world.violation(), "kvtier_sim_alias"));
}
