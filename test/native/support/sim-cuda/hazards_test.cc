// Why the simulator exists: a wait that is missing gives wrong bytes, every time, in an order that the test chooses.
#include <algorithm>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::CopyAttributes;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::SourceAccessOrder;
using kvtier::cuda::Stream;

constexpr std::size_t kBytes = 4096;

// One copy as a batch, with the access order.
Error copy_batch(const World& world, DevicePtr target, DevicePtr source, SourceAccessOrder order, Stream stream) {
  std::size_t bytes = kBytes;
  std::size_t start = 0;
  CopyAttributes attributes{.source_access_order = order, .source_hint = {}, .target_hint = {}, .flags = 0};
  return world.cuda.memcpy_batch_async_13000(&target, &source, &bytes, 1, &attributes, &start, 1, stream);
}

}  // namespace

TEST_CASE("sim-cuda: an offload that does not wait for its producer reads the bytes of before") {
  const World world("hold=1");
  const DevicePtr block = world.allocate(kBytes, 1);
  const Stream producer = world.stream();
  const Stream offload = world.stream();
  Pinned host(kBytes);
  REQUIRE(world.cuda.memset_d8_async(block, 2, kBytes, producer) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), block, kBytes, offload) == Error::kSuccess);
  CHECK(world.sim.step(offload, 1) == 1);
  CHECK(host.count(1) == kBytes);
  CHECK(world.sim.step(producer, 1) == 1);
  CHECK(host.count(2) == 0);
}

TEST_CASE("sim-cuda: an offload that waits for its producer's event cannot run before it") {
  const World world("hold=1");
  const DevicePtr block = world.allocate(kBytes, 1);
  const Stream producer = world.stream();
  const Stream offload = world.stream();
  const kvtier::cuda::Event produced = world.event();
  Pinned host(kBytes);
  REQUIRE(world.cuda.memset_d8_async(block, 2, kBytes, producer) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(produced, producer) == Error::kSuccess);
  REQUIRE(world.cuda.stream_wait_event(offload, produced, 0) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), block, kBytes, offload) == Error::kSuccess);
  CHECK(world.sim.step(offload, 1) == 0);
  CHECK(world.sim.step(producer, 1) == 1);
  CHECK(world.sim.step(offload, 1) == 0);
  CHECK(world.sim.step(producer, 1) == 1);
  CHECK(world.sim.step(offload, 2) == 2);
  CHECK(host.count(2) == kBytes);
}

TEST_CASE("sim-cuda: host memory that is read before the copy is done holds old bytes, or a part of the new") {
  const World world("hold=1");
  const DevicePtr block = world.allocate(kBytes, 2);
  const Stream stream = world.stream();
  Pinned host(kBytes, 1);
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), block, kBytes, stream) == Error::kSuccess);
  CHECK(host.count(1) == kBytes);
  CHECK(world.sim.step_piece(stream) == 1);
  CHECK(host.count(1) > 0);
  CHECK(host.count(2) > 0);
  CHECK(world.cuda.stream_query(stream) == Error::kNotReady);
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(host.count(2) == kBytes);
  CHECK(world.cuda.stream_query(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: a host buffer that is used again before its copy is done changes what arrives") {
  const World world("hold=1");
  const DevicePtr block = world.allocate(kBytes, 0);
  const Stream stream = world.stream();
  Pinned host(kBytes, 1);
  REQUIRE(world.cuda.memcpy_htod_async(block, host.data(), kBytes, stream) == Error::kSuccess);
  std::fill(host.data(), host.data() + kBytes, static_cast<unsigned char>(9));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(block, kBytes) == bytes_of(kBytes, 9));
}

TEST_CASE("sim-cuda: a device slot that is overwritten while another stream reads it gives a mixture") {
  const World world("hold=1");
  const DevicePtr slot = world.allocate(kBytes, 1);
  const Stream offload = world.stream();
  const Stream onboard = world.stream();
  Pinned saved(kBytes);
  Pinned other(kBytes, 2);
  REQUIRE(world.cuda.memcpy_dtoh_async(saved.data(), slot, kBytes, offload) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_htod_async(slot, other.data(), kBytes, onboard) == Error::kSuccess);
  CHECK(world.sim.step_piece(offload) == 1);
  CHECK(world.sim.step(onboard, 1) == 1);
  CHECK(world.sim.step(offload, 1) == 1);
  CHECK(saved.count(1) > 0);
  CHECK(saved.count(2) > 0);
  CHECK(saved.count(1) + saved.count(2) == kBytes);
}

TEST_CASE("sim-cuda: a batch offload with access order 'any' reads before earlier work of its own stream") {
  const World world("hold=1 any_order=early");
  const DevicePtr block = world.allocate(kBytes, 1);
  const Stream stream = world.stream();
  Pinned any(kBytes);
  Pinned ordered(kBytes);
  REQUIRE(world.cuda.memset_d8_async(block, 2, kBytes, stream) == Error::kSuccess);
  REQUIRE(copy_batch(world, any.address(), block, SourceAccessOrder::kAny, stream) == Error::kSuccess);
  REQUIRE(copy_batch(world, ordered.address(), block, SourceAccessOrder::kStream, stream) == Error::kSuccess);
  CHECK(world.sim.step(stream, 3) == 3);
  CHECK(any.count(1) == kBytes);
  CHECK(ordered.count(2) == kBytes);
}

TEST_CASE("sim-cuda: a batch onboard with access order 'any' may read a source that is changed after the call") {
  const World world("hold=1 any_order=late");
  const DevicePtr block = world.allocate(kBytes, 0);
  const Stream stream = world.stream();
  Pinned host(kBytes, 1);
  REQUIRE(copy_batch(world, block, host.address(), SourceAccessOrder::kAny, stream) == Error::kSuccess);
  std::fill(host.data(), host.data() + kBytes, static_cast<unsigned char>(9));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(block, kBytes) == bytes_of(kBytes, 9));
}

TEST_CASE("sim-cuda: by default access order 'any' is read early for some copies and late for others") {
  const World world("hold=1");
  const Stream stream = world.stream();
  constexpr std::size_t kCopies = 64;
  const DevicePtr block = world.allocate(kCopies, 1);
  Pinned host(kCopies);
  std::vector<DevicePtr> targets;
  std::vector<DevicePtr> sources;
  std::vector<std::size_t> sizes(kCopies, 1);
  for (std::size_t index = 0; index < kCopies; ++index) {
    targets.push_back(host.address() + index);
    sources.push_back(block + index);
  }
  std::size_t start = 0;
  CopyAttributes attributes;
  attributes.source_access_order = SourceAccessOrder::kAny;
  REQUIRE(world.cuda.memset_d8_async(block, 2, kCopies, stream) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_batch_async_13000(targets.data(), sources.data(), sizes.data(), kCopies, &attributes,
                                              &start, 1, stream) == Error::kSuccess);
  CHECK(world.sim.step(stream, 2) == 2);
  CHECK(host.count(1) > 0);
  CHECK(host.count(2) > 0);
}

TEST_CASE("sim-cuda: an event that is recorded again does not move a wait that was made before") {
  const World world("hold=1");
  const DevicePtr block = world.allocate(kBytes, 1);
  const Stream producer = world.stream();
  const Stream offload = world.stream();
  const kvtier::cuda::Event event = world.event();
  Pinned host(kBytes);
  REQUIRE(world.cuda.event_record(event, producer) == Error::kSuccess);
  REQUIRE(world.cuda.stream_wait_event(offload, event, 0) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), block, kBytes, offload) == Error::kSuccess);
  REQUIRE(world.cuda.memset_d8_async(block, 2, kBytes, producer) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(event, producer) == Error::kSuccess);
  CHECK(world.sim.step(producer, 1) == 1);
  CHECK(world.sim.step(offload, 2) == 2);
  CHECK(host.count(1) == kBytes);
  CHECK(world.cuda.event_query(event) == Error::kNotReady);
}

TEST_CASE("sim-cuda: without a hold work runs by itself, and later than its call") {
  const World world("lateness_us=2000");
  const DevicePtr block = world.allocate(kBytes, 2);
  const Stream stream = world.stream();
  bool was_late = false;
  for (int round = 0; round < 50 && !was_late; ++round) {
    Pinned host(kBytes, 1);
    REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), block, kBytes, stream) == Error::kSuccess);
    was_late = world.cuda.stream_query(stream) == Error::kNotReady;
    REQUIRE(world.cuda.stream_synchronize(stream) == Error::kSuccess);
    CHECK(host.count(2) == kBytes);
  }
  CHECK(was_late);
}
