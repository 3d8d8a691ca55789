// Device memory of the simulated driver: who may touch it, and what misuse of its addresses gives.
#include <signal.h>
#include <sys/wait.h>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::PointerAttribute;

constexpr std::size_t kBytes = 8192;

}  // namespace

TEST_CASE("sim-cuda: the CPU dies when it follows a device pointer") {
  const World world;
  const DevicePtr pointer = world.allocate(kBytes, 1);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    const auto* address = reinterpret_cast<const volatile unsigned char*>(pointer);
    ::_exit(*address == 1 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSEGV);
}

TEST_CASE("sim-cuda: a system call that is given a device pointer fails") {
  const World world;
  const DevicePtr pointer = world.allocate(kBytes);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  CHECK(::write(ends[1], reinterpret_cast<const void*>(pointer), 16) == -1);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("sim-cuda: device memory runs out, and comes back when it is freed") {
  const World world("memory=1M");
  std::size_t free = 0;
  std::size_t total = 0;
  const DevicePtr half = world.allocate(512 << 10);
  CHECK(world.cuda.mem_get_info(&free, &total) == Error::kSuccess);
  CHECK(total == 1 << 20);
  CHECK(free == 512 << 10);
  DevicePtr other = 0;
  CHECK(world.cuda.mem_alloc(&other, (512 << 10) + 1) == Error::kOutOfMemory);
  CHECK(world.cuda.mem_free(half) == Error::kSuccess);
  CHECK(world.cuda.mem_alloc(&other, 1 << 20) == Error::kSuccess);
  CHECK(world.sim.count("allocations") == 1);
  CHECK(world.sim.count("allocated_bytes") == 1 << 20);
  CHECK(world.cuda.mem_alloc(&other, 0) == Error::kInvalidValue);
}

TEST_CASE("sim-cuda: the addresses of freed memory are not used again, or at once where that is asked for") {
  const World world;
  const DevicePtr first = world.allocate(kBytes);
  REQUIRE(world.cuda.mem_free(first) == Error::kSuccess);
  CHECK(world.allocate(kBytes) != first);
  world.sim.set("reuse=1");
  CHECK(world.allocate(2 * kBytes) != first);
  CHECK(world.allocate(kBytes, 7) == first);
  CHECK(world.read(first, kBytes) == bytes_of(kBytes, 7));
  CHECK(world.allocate(kBytes) != first);
  unsigned long long id = 0;
  unsigned long long other = 0;
  CHECK(world.cuda.pointer_get_attribute(&id, PointerAttribute::kBufferId, first) == Error::kSuccess);
  CHECK(world.cuda.mem_free(first) == Error::kSuccess);
  CHECK(world.allocate(kBytes) == first);
  CHECK(world.cuda.pointer_get_attribute(&other, PointerAttribute::kBufferId, first) == Error::kSuccess);
  CHECK(other != id);
}

TEST_CASE("sim-cuda: new device memory does not hold zeros") {
  const World world;
  CHECK(world.read(world.allocate(64), 64) == bytes_of(64, 0xD7));
}

TEST_CASE("sim-cuda: freed memory is known as freed, and its address is not given again") {
  const World world;
  const DevicePtr pointer = world.allocate(kBytes);
  Pinned host(kBytes);
  const auto stream = world.stream();
  CHECK(world.cuda.mem_free(pointer + 16) == Error::kInvalidValue);
  CHECK(world.cuda.mem_free(pointer) == Error::kSuccess);
  CHECK(world.allocate(kBytes) != pointer);
  CHECK(world.cuda.memcpy_dtoh_async(host.data(), pointer, 16, stream) == Error::kInvalidValue);
  CHECK(has(world.violation(), "freed before"));
  CHECK(world.cuda.mem_free(pointer) == Error::kInvalidValue);
  CHECK(has(world.violation(), "freed before"));
  CHECK(world.cuda.mem_free(0) == Error::kSuccess);
}

TEST_CASE("sim-cuda: a copy that leaves its allocation is refused and recorded") {
  const World world;
  const DevicePtr pointer = world.allocate(1000);
  Pinned host(kBytes);
  const auto stream = world.stream();
  CHECK(world.cuda.memcpy_dtoh_async(host.data(), pointer + 1, 1000, stream) == Error::kInvalidValue);
  CHECK(has(world.violation(), "leaves"));
  // The rest of the allocation's last page belongs to nobody.
  CHECK(world.cuda.memcpy_async(host.address(), pointer + 1000, 1, stream) == Error::kInvalidValue);
  CHECK(has(world.violation(), "leaves"));
  CHECK(world.cuda.memcpy_dtoh_async(host.data(), pointer, 1000, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: memory that queued work uses must not be freed") {
  const World world("hold=1");
  const DevicePtr pointer = world.allocate(kBytes);
  Pinned host(kBytes, 1);
  const auto stream = world.stream();
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), pointer, kBytes, stream) == Error::kSuccess);
  CHECK(world.cuda.mem_free(pointer) == Error::kSuccess);
  CHECK(has(world.violation(), "queued work"));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(has(world.violation(), "gone"));
  CHECK(world.cuda.stream_query(stream) == Error::kIllegalAddress);
  CHECK(host.count(1) == kBytes);
}

TEST_CASE("sim-cuda: what a pointer means can be asked for") {
  const World world;
  const DevicePtr pointer = world.allocate(kBytes);
  DevicePtr base = 0;
  std::size_t bytes = 0;
  CHECK(world.cuda.mem_get_address_range(&base, &bytes, pointer + 100) == Error::kSuccess);
  CHECK(base == pointer);
  CHECK(bytes == kBytes);
  unsigned type = 0;
  CHECK(world.cuda.pointer_get_attribute(&type, PointerAttribute::kMemoryType, pointer + 1) == Error::kSuccess);
  CHECK(type == 2);
  bool capable = false;
  CHECK(world.cuda.pointer_get_attribute(&capable, PointerAttribute::kIsLegacyIpcCapable, pointer) == Error::kSuccess);
  CHECK(capable);
  CHECK(world.cuda.pointer_get_attribute(&base, PointerAttribute::kRangeStart, pointer + 7) == Error::kSuccess);
  CHECK(base == pointer);
  Pinned host(kBytes);
  CHECK(world.cuda.pointer_get_attribute(&type, PointerAttribute::kMemoryType, host.address()) == Error::kSuccess);
  CHECK(type == 1);
  CHECK(world.cuda.pointer_get_attribute(&type, PointerAttribute::kMemoryType, reinterpret_cast<DevicePtr>(&bytes)) ==
        Error::kInvalidValue);
}

TEST_CASE("sim-cuda: a context that ends takes its memory, streams and events with it") {
  const World world("hold=1");
  const DevicePtr pointer = world.allocate(kBytes);
  const auto stream = world.stream();
  const auto event = world.event();
  REQUIRE(world.cuda.memset_d8_async(pointer, 1, kBytes, stream) == Error::kSuccess);
  CHECK(world.cuda.device_primary_ctx_release(0) == Error::kSuccess);
  CHECK(world.sim.violations() >= 1);
  CHECK(has(world.sim.violation_text(), "still queued"));
  world.sim.clear_violations();
  CHECK(world.sim.count("allocations") == 0);
  CHECK(world.sim.count("streams") == 0);
  CHECK(world.sim.count("events") == 0);
  CHECK(world.cuda.event_query(event) == Error::kContextIsDestroyed);
  CHECK(world.cuda.device_primary_ctx_release(0) == Error::kInvalidContext);
}

TEST_CASE("sim-cuda: calls need a current context") {
  const World world;
  REQUIRE(world.cuda.ctx_set_current(nullptr) == Error::kSuccess);
  DevicePtr pointer = 0;
  CHECK(world.cuda.mem_alloc(&pointer, kBytes) == Error::kInvalidContext);
  CHECK(world.cuda.ctx_set_current(world.context) == Error::kSuccess);
  CHECK(world.cuda.mem_alloc(&pointer, kBytes) == Error::kSuccess);
}
