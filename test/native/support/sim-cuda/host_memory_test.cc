// Registered and pageable host memory of the simulated driver.
#include <algorithm>
#include <thread>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::kHostRegisterDeviceMap;
using kvtier::cuda::kHostRegisterPortable;

constexpr std::size_t kBytes = 8192;

}  // namespace

TEST_CASE("sim-cuda: host memory is registered once, as a whole, and unregistered by its first byte") {
  const World world;
  std::vector<unsigned char> memory(kBytes);
  CHECK(world.cuda.mem_host_register(memory.data(), kBytes, 0) == Error::kSuccess);
  CHECK(world.cuda.mem_host_register(memory.data(), kBytes, 0) == Error::kHostMemoryAlreadyRegistered);
  CHECK(world.cuda.mem_host_register(memory.data() + 100, 10, 0) == Error::kHostMemoryAlreadyRegistered);
  CHECK(world.cuda.mem_host_unregister(memory.data() + 100) == Error::kHostMemoryNotRegistered);
  CHECK(world.sim.count("registrations") == 1);
  CHECK(world.cuda.mem_host_unregister(memory.data()) == Error::kSuccess);
  CHECK(world.cuda.mem_host_unregister(memory.data()) == Error::kHostMemoryNotRegistered);
  CHECK(world.sim.count("registrations") == 0);
}

TEST_CASE("sim-cuda: what is no host memory cannot be registered") {
  const World world;
  void* const gap = ::mmap(nullptr, 2 * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(gap != MAP_FAILED);
  REQUIRE(::munmap(static_cast<char*>(gap) + kBytes, kBytes) == 0);
  CHECK(world.cuda.mem_host_register(gap, 2 * kBytes, 0) == Error::kInvalidValue);
  CHECK(world.cuda.mem_host_register(gap, kBytes, 0x100) == Error::kInvalidValue);
  CHECK(world.cuda.mem_host_register(gap, 0, 0) == Error::kInvalidValue);
  CHECK(world.cuda.mem_host_register(nullptr, kBytes, 0) == Error::kInvalidValue);
  const DevicePtr device = world.allocate(kBytes);
  CHECK(world.cuda.mem_host_register(reinterpret_cast<void*>(device), kBytes, 0) == Error::kInvalidValue);
  ::munmap(gap, kBytes);
}

TEST_CASE("sim-cuda: pinned memory has a limit that can be set") {
  const World world("pinned=12K");
  std::vector<unsigned char> memory(2 * kBytes);
  CHECK(world.cuda.mem_host_register(memory.data(), kBytes, 0) == Error::kSuccess);
  CHECK(world.cuda.mem_host_register(memory.data() + kBytes, kBytes, 0) == Error::kOutOfMemory);
  CHECK(world.cuda.mem_host_register(memory.data() + kBytes, kBytes / 2, 0) == Error::kSuccess);
}

TEST_CASE("sim-cuda: host memory that queued work uses must not be unregistered") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(kBytes, 2);
  std::vector<unsigned char> host(kBytes, 1);
  REQUIRE(world.cuda.mem_host_register(host.data(), kBytes, 0) == Error::kSuccess);
  const auto stream = world.stream();
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), device, kBytes, stream) == Error::kSuccess);
  CHECK(world.cuda.mem_host_unregister(host.data()) == Error::kSuccess);
  CHECK(has(world.violation(), "cuMemHostUnregister"));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(has(world.violation(), "gone"));
  CHECK(host == bytes_of(kBytes, 1));
}

TEST_CASE("sim-cuda: a copy must not run over the edge of a registration") {
  const World world;
  const DevicePtr device = world.allocate(kBytes);
  std::vector<unsigned char> host(2 * kBytes);
  const auto stream = world.stream();
  REQUIRE(world.cuda.mem_host_register(host.data(), kBytes, 0) == Error::kSuccess);
  unsigned char* const edge = host.data() + kBytes - 16;
  CHECK(world.cuda.memcpy_htod_async(device, edge, 32, stream) == Error::kInvalidValue);
  // Nor over the edge between two of them.
  REQUIRE(world.cuda.mem_host_register(host.data() + kBytes, kBytes, 0) == Error::kSuccess);
  CHECK(world.cuda.memcpy_htod_async(device, edge, 32, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memcpy_htod_async(device, edge, 16, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: a pageable source is read before the call returns") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(kBytes, 0);
  std::vector<unsigned char> host(kBytes, 1);
  const auto stream = world.stream();
  REQUIRE(world.cuda.memcpy_htod_async(device, host.data(), kBytes, stream) == Error::kSuccess);
  CHECK(world.sim.count("pageable_copies") == 1);
  std::fill(host.begin(), host.end(), static_cast<unsigned char>(9));
  CHECK(world.read(device, kBytes) == bytes_of(kBytes, 0));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(device, kBytes) == bytes_of(kBytes, 1));
}

TEST_CASE("sim-cuda: a copy to pageable memory is complete when the call returns") {
  const World world;
  const DevicePtr device = world.allocate(kBytes, 3);
  const auto stream = world.stream();
  for (int round = 0; round < 20; ++round) {
    std::vector<unsigned char> host(kBytes);
    REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), device, kBytes, stream) == Error::kSuccess);
    CHECK(host == bytes_of(kBytes, 3));
  }
  CHECK(world.sim.count("pageable_copies") == 20);
}

TEST_CASE("sim-cuda: memory that is not portable is pinned for its own context alone") {
  const World world("hold=1");
  const auto second = world.retain(1);
  Pinned portable(kBytes, 1, kHostRegisterPortable);
  Pinned own(kBytes, 1, 0);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  const DevicePtr device = world.allocate(kBytes, 0);
  const auto stream = world.stream();
  CHECK(world.cuda.memcpy_htod_async(device, portable.data(), kBytes, stream) == Error::kSuccess);
  CHECK(world.sim.count("pageable_copies") == 0);
  CHECK(world.cuda.memcpy_htod_async(device, own.data(), kBytes, stream) == Error::kSuccess);
  CHECK(world.sim.count("pageable_copies") == 1);
  CHECK(world.sim.step(stream, 2) == 2);
  REQUIRE(world.cuda.ctx_set_current(world.context) == Error::kSuccess);
}

TEST_CASE("sim-cuda: mapped memory has a device address, by choice another than the host's") {
  {
    const World world;
    Pinned host(kBytes, 1);
    DevicePtr address = 0;
    CHECK(world.cuda.mem_host_get_device_pointer(&address, host.data() + 16, 0) == Error::kSuccess);
    CHECK(address == host.address() + 16);
    Pinned unmapped(kBytes, 1, kHostRegisterPortable);
    CHECK(world.cuda.mem_host_get_device_pointer(&address, unmapped.data(), 0) == Error::kInvalidValue);
  }
  const World world("host_pointers=0 hold=1");
  Pinned host(kBytes, 1);
  DevicePtr address = 0;
  CHECK(world.cuda.mem_host_get_device_pointer(&address, host.data() + 16, 0) == Error::kSuccess);
  CHECK(address != host.address() + 16);
  const DevicePtr device = world.allocate(kBytes, 0);
  const auto stream = world.stream();
  CHECK(world.cuda.memcpy_dtod_async(device, address, 100, stream) == Error::kSuccess);
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(device, 100) == bytes_of(100, 1));
}

TEST_CASE("sim-cuda: parameters of the wrong kind of memory are refused") {
  const World world;
  const DevicePtr device = world.allocate(kBytes);
  Pinned host(kBytes, 0, kHostRegisterPortable);
  const auto stream = world.stream();
  CHECK(world.cuda.memcpy_htod_async(host.address(), host.data(), 16, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memcpy_htod_async(device, reinterpret_cast<void*>(device), 16, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memcpy_dtoh_async(reinterpret_cast<void*>(device), device, 16, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memset_d8_async(host.address(), 0, 16, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memcpy_async(0, device, 16, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memcpy_async(device, device, 0, stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: threads that copy at once get their own bytes") {
  const World world;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t index = 0; index < wrong.size(); ++index) {
    threads.emplace_back([&, index] {
      const auto& cuda = world.cuda;
      const auto value = static_cast<unsigned char>(index + 1);
      std::vector<unsigned char> host(2 * kBytes, value);
      DevicePtr device = 0;
      kvtier::cuda::Stream stream = nullptr;
      (void)cuda.ctx_set_current(world.context);
      (void)cuda.mem_host_register(host.data(), host.size(), kHostRegisterPortable);
      (void)cuda.mem_alloc(&device, kBytes);
      (void)cuda.stream_create_with_priority(&stream, kvtier::cuda::kStreamNonBlocking, 0);
      for (int round = 0; round < 30; ++round) {
        (void)cuda.memcpy_htod_async(device, host.data(), kBytes, stream);
        (void)cuda.memcpy_dtoh_async(host.data() + kBytes, device, kBytes, stream);
        if (cuda.stream_synchronize(stream) != Error::kSuccess) ++wrong[index];
        if (host != bytes_of(2 * kBytes, value)) ++wrong[index];
        std::fill(host.begin() + kBytes, host.end(), static_cast<unsigned char>(0));
      }
      (void)cuda.stream_destroy(stream);
      (void)cuda.mem_free(device);
      (void)cuda.mem_host_unregister(host.data());
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}
