// Calls and queued work of the simulated driver that fail when a test says so.
#include <cstdlib>
#include <fstream>
#include <thread>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Event;
using kvtier::cuda::Stream;

constexpr std::size_t kBytes = 4096;

}  // namespace

TEST_CASE("sim-cuda: the nth call of a function fails and does nothing") {
  const World world;
  world.sim.fail_call("cuMemAlloc", 2, static_cast<int>(Error::kOutOfMemory), 2);
  DevicePtr pointer = 0;
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kSuccess);
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kOutOfMemory);
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kOutOfMemory);
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kSuccess);
  CHECK(world.sim.count("allocations") == 2);
  CHECK(world.sim.calls("cuMemAlloc") == 4);
  CHECK(world.sim.calls("cuMemAlloc_v2") == 4);
}

TEST_CASE("sim-cuda: any call can be the one that fails") {
  const World world;
  world.sim.fail_call(nullptr, 3, 999, 1);
  const Stream stream = world.stream();
  CHECK(world.cuda.stream_query(stream) == Error::kSuccess);
  CHECK(world.cuda.stream_query(stream) == Error::kUnknown);
  CHECK(world.cuda.stream_query(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: failures are planned by settings, also from the environment and by chance") {
  ::setenv("KVTIER_SIM_CUDA", "fail=cuInit:1:802;seed=3", 1);
  const SimDriver& sim = SimDriver::get();
  sim.reset(nullptr);
  CHECK(sim.cuda.init(0) == Error::kSystemNotReady);
  CHECK(sim.cuda.init(0) == Error::kSuccess);
  ::unsetenv("KVTIER_SIM_CUDA");
  const World world("fail=cuStreamQuery:50%:719 fail=cuModuleLoadData:1:209:*");
  const Stream stream = world.stream();
  int failed = 0;
  for (int round = 0; round < 100; ++round) failed += world.cuda.stream_query(stream) == Error::kLaunchFailed ? 1 : 0;
  CHECK(failed > 20);
  CHECK(failed < 80);
  kvtier::cuda::Module module = nullptr;
  for (int round = 0; round < 3; ++round) {
    CHECK(world.cuda.module_load_data(&module,
                                      "\x7F"
                                      "ELF") == Error::kNoBinaryForGpu);
  }
}

TEST_CASE("sim-cuda: work that fails leaves part of its bytes and its context in error") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(kBytes, 2);
  Pinned host(kBytes, 1);
  const Stream stream = world.stream();
  const Stream other = world.stream();
  const Event event = world.event();
  world.sim.fail_work("copy", 1, static_cast<int>(Error::kIllegalAddress));
  REQUIRE(world.cuda.memset_d8_async(device, 2, kBytes, other) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), device, kBytes, stream) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(event, stream) == Error::kSuccess);
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(host.count(1) > 0);
  CHECK(host.count(2) > 0);
  CHECK(world.cuda.event_query(event) == Error::kIllegalAddress);
  CHECK(world.cuda.event_synchronize(event) == Error::kIllegalAddress);
  CHECK(world.cuda.stream_synchronize(other) == Error::kIllegalAddress);
  DevicePtr pointer = 0;
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kIllegalAddress);
  CHECK(world.cuda.mem_free(device) == Error::kIllegalAddress);
  CHECK(world.sim.pending(other) == 0);
  // The other device is not concerned, and a new context on this one is sound.
  const auto second = world.retain(1);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kSuccess);
  CHECK(world.cuda.device_primary_ctx_release(0) == Error::kSuccess);
  REQUIRE(world.cuda.ctx_set_current(world.retain(0)) == Error::kSuccess);
  CHECK(world.cuda.mem_alloc(&pointer, 16) == Error::kSuccess);
}

TEST_CASE("sim-cuda: who waits in the host is told of a failure") {
  const World world("fail_work=*:1:719 lateness_us=2000");
  const DevicePtr device = world.allocate(kBytes);
  const Stream stream = world.stream();
  REQUIRE(world.cuda.memset_d8_async(device, 1, kBytes, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kLaunchFailed);
}

TEST_CASE("sim-cuda: a lost device fails its calls, its work and every new context") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(kBytes, 0);
  const Stream stream = world.stream();
  REQUIRE(world.cuda.memset_d8_async(device, 1, kBytes, stream) == Error::kSuccess);
  std::thread waiting([&] {
    (void)world.cuda.ctx_set_current(world.context);
    CHECK(world.cuda.stream_synchronize(stream) == Error::kDeviceUnavailable);
  });
  REQUIRE(world.sim.wait_for_calls("cuStreamSynchronize", 1, 10000) == 1);
  world.sim.lose_device(0, static_cast<int>(Error::kDeviceUnavailable));
  waiting.join();
  CHECK(world.read(device, 1).front() == 0);
  CHECK(world.cuda.stream_query(stream) == Error::kDeviceUnavailable);
  kvtier::cuda::Context context = nullptr;
  CHECK(world.cuda.device_primary_ctx_retain(&context, 0) == Error::kDeviceUnavailable);
  CHECK(world.cuda.device_primary_ctx_retain(&context, 1) == Error::kSuccess);
}

TEST_CASE("sim-cuda: a wait of another device for a failed record ends") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(kBytes);
  const Stream failing = world.stream();
  const Event event = world.event();
  const auto second = world.retain(1);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  const Stream other = world.stream();
  world.sim.fail_work(nullptr, 1, 700);
  REQUIRE(world.cuda.memset_d8_async(device, 1, kBytes, failing) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(event, failing) == Error::kSuccess);
  REQUIRE(world.cuda.stream_wait_event(other, event, 0) == Error::kSuccess);
  CHECK(world.sim.step(failing, 1) == 1);
  CHECK(world.sim.step(other, 1) == 1);
  CHECK(world.cuda.stream_query(other) == Error::kSuccess);
}

TEST_CASE("sim-cuda: violations are appended to the report as they happen") {
  char path[] = "/tmp/kvtier-sim-report-XXXXXX";
  ::close(::mkstemp(path));
  {
    const World world((std::string("report=") + path).c_str());
    CHECK(world.cuda.stream_query(reinterpret_cast<Stream>(0x1234560)) == Error::kInvalidHandle);
    CHECK(has(world.violation(), "the stream is none"));
  }
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  CHECK(line == std::to_string(::getpid()) + " violation: cuStreamQuery: the stream is none");
  ::unlink(path);
}
