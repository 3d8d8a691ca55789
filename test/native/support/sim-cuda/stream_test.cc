// Streams and events of the simulated driver: order, waits, holds.
#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Event;
using kvtier::cuda::Stream;

constexpr std::size_t kBytes = 4096;

// The order in which two streams' fills of one byte ran, drawn by the seed.
std::vector<unsigned char> order_of(const char* settings) {
  const World world(settings);
  const Stream streams[] = {world.stream(), world.stream(), world.stream()};
  const DevicePtr cell = world.allocate(1, 0);
  for (int round = 0; round < 8; ++round) {
    for (unsigned char index = 0; index < 3; ++index) {
      REQUIRE(world.cuda.memset_d8_async(cell, static_cast<unsigned char>(index + 1), 1, streams[index]) ==
              Error::kSuccess);
    }
  }
  std::vector<unsigned char> order;
  while (world.sim.step_any(1) == 1) order.push_back(world.read(cell, 1).front());
  return order;
}

}  // namespace

TEST_CASE("sim-cuda: a stream does its work in order") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(kBytes, 0);
  const Stream stream = world.stream();
  for (unsigned char value = 1; value <= 5; ++value) {
    REQUIRE(world.cuda.memset_d8_async(cell, value, kBytes, stream) == Error::kSuccess);
  }
  CHECK(world.sim.pending(stream) == 5);
  CHECK(has(world.sim.next_text(stream), "cuMemsetD8Async"));
  for (unsigned char value = 1; value <= 5; ++value) {
    CHECK(world.sim.step_any(1) == 1);
    CHECK(world.read(cell, kBytes) == bytes_of(kBytes, value));
  }
  CHECK(world.sim.step(stream, 1) == 0);
}

TEST_CASE("sim-cuda: independent streams run in the order that the seed draws") {
  const std::vector<unsigned char> first = order_of("hold=1 seed=1");
  CHECK(first.size() == 24);
  CHECK(order_of("hold=1 seed=1") == first);
  CHECK(order_of("hold=1 seed=2") != first);
}

TEST_CASE("sim-cuda: one stream can be held while others run") {
  const World world;
  const DevicePtr cells = world.allocate(2, 0);
  const Stream held = world.stream();
  const Stream running = world.stream();
  world.sim.hold_stream(held);
  REQUIRE(world.cuda.memset_d8_async(cells, 1, 1, held) == Error::kSuccess);
  REQUIRE(world.cuda.memset_d8_async(cells + 1, 1, 1, running) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(running) == Error::kSuccess);
  CHECK(world.read(cells, 2) == std::vector<unsigned char>{0, 1});
  CHECK(world.cuda.stream_query(held) == Error::kNotReady);
  world.sim.release_stream(held);
  CHECK(world.cuda.stream_synchronize(held) == Error::kSuccess);
  CHECK(world.read(cells, 2) == std::vector<unsigned char>{1, 1});
}

TEST_CASE("sim-cuda: work that is queued can be waited for") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(1);
  const Stream stream = world.stream();
  CHECK(world.sim.wait_for_work(1, 1) == 0);
  REQUIRE(world.cuda.memset_d8_async(cell, 1, 1, stream) == Error::kSuccess);
  CHECK(world.sim.wait_for_work(1, 1000) == 1);
  CHECK(world.sim.wait_for_calls("cuMemsetD8Async", 1, 1000) == 1);
  CHECK(world.sim.wait_for_calls("cuMemsetD8Async", 2, 1) == 0);
  Stream streams[4] = {};
  CHECK(world.sim.streams(streams, 4) == 1);
  CHECK(streams[0] == stream);
}

TEST_CASE("sim-cuda: a destroyed stream ends its work, and its handle is of no more use") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(1, 0);
  const Stream stream = world.stream();
  REQUIRE(world.cuda.memset_d8_async(cell, 1, 1, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_destroy(stream) == Error::kSuccess);
  CHECK(world.sim.count("streams") == 0);
  CHECK(world.sim.step_any(9) == 1);
  CHECK(world.read(cell, 1).front() == 1);
  CHECK(world.cuda.stream_query(stream) == Error::kInvalidHandle);
  CHECK(has(world.violation(), "destroyed before"));
}

TEST_CASE("sim-cuda: the legacy stream and blocking streams take turns in the order of their calls") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(1, 0);
  const Stream blocking = world.stream(0);
  const Stream free_running = world.stream();
  REQUIRE(world.cuda.memset_d8_async(cell, 1, 1, blocking) == Error::kSuccess);
  REQUIRE(world.cuda.memset_d8_async(cell, 2, 1, nullptr) == Error::kSuccess);
  REQUIRE(world.cuda.memset_d8_async(cell, 3, 1, blocking) == Error::kSuccess);
  REQUIRE(world.cuda.memset_d8_async(cell, 4, 1, free_running) == Error::kSuccess);
  CHECK(world.sim.step(nullptr, 1) == 0);
  CHECK(world.sim.step(free_running, 1) == 1);
  CHECK(world.sim.step(blocking, 9) == 1);
  CHECK(world.sim.step(nullptr, 1) == 1);
  CHECK(world.read(cell, 1).front() == 2);
  CHECK(world.sim.step(blocking, 9) == 1);
  CHECK(world.cuda.stream_query(nullptr) == Error::kSuccess);
}

TEST_CASE("sim-cuda: an event is complete before its first record and again when the record is reached") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(1, 0);
  const Stream stream = world.stream();
  const Stream waiting = world.stream();
  const Event event = world.event();
  CHECK(world.cuda.event_query(event) == Error::kSuccess);
  CHECK(world.cuda.event_synchronize(event) == Error::kSuccess);
  CHECK(world.cuda.stream_wait_event(waiting, event, 0) == Error::kSuccess);
  CHECK(world.sim.pending(waiting) == 0);
  REQUIRE(world.cuda.memset_d8_async(cell, 1, 1, stream) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(event, stream) == Error::kSuccess);
  CHECK(world.cuda.event_query(event) == Error::kNotReady);
  CHECK(world.sim.step(stream, 2) == 2);
  CHECK(world.cuda.event_query(event) == Error::kSuccess);
}

TEST_CASE("sim-cuda: an event that is destroyed with waits pending still ends them") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(1, 0);
  const Stream producer = world.stream();
  const Stream consumer = world.stream();
  const Event event = world.event();
  REQUIRE(world.cuda.memset_d8_async(cell, 1, 1, producer) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(event, producer) == Error::kSuccess);
  REQUIRE(world.cuda.stream_wait_event(consumer, event, 0) == Error::kSuccess);
  CHECK(world.cuda.event_destroy(event) == Error::kSuccess);
  CHECK(world.sim.step(consumer, 1) == 0);
  CHECK(world.sim.step(producer, 2) == 2);
  CHECK(world.sim.step(consumer, 1) == 1);
  CHECK(world.cuda.event_query(event) == Error::kInvalidHandle);
  CHECK(has(world.violation(), "destroyed before"));
}

TEST_CASE("sim-cuda: synchronizing an event waits for it") {
  const World world("lateness_us=500");
  const DevicePtr device = world.allocate(kBytes, 7);
  const Stream stream = world.stream();
  const Event event = world.event(kvtier::cuda::kEventDisableTiming | kvtier::cuda::kEventBlockingSync);
  for (int round = 0; round < 20; ++round) {
    Pinned host(kBytes);
    REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), device, kBytes, stream) == Error::kSuccess);
    REQUIRE(world.cuda.event_record(event, stream) == Error::kSuccess);
    REQUIRE(world.cuda.event_synchronize(event) == Error::kSuccess);
    CHECK(host.count(7) == kBytes);
  }
}

TEST_CASE("sim-cuda: elapsed time needs events with timing that were recorded and reached") {
  const World world("hold=1");
  const Stream stream = world.stream();
  const Event first = world.event(0);
  const Event second = world.event(0);
  const Event untimed = world.event();
  float milliseconds = -1;
  CHECK(world.cuda.event_elapsed_time(&milliseconds, first, second) == Error::kInvalidHandle);
  REQUIRE(world.cuda.event_record(first, stream) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(second, stream) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(untimed, stream) == Error::kSuccess);
  CHECK(world.cuda.event_elapsed_time(&milliseconds, first, second) == Error::kNotReady);
  CHECK(world.sim.step(stream, 3) == 3);
  CHECK(world.cuda.event_elapsed_time(&milliseconds, first, second) == Error::kSuccess);
  CHECK(milliseconds >= 0);
  CHECK(world.cuda.event_elapsed_time(&milliseconds, first, untimed) == Error::kInvalidHandle);
}

TEST_CASE("sim-cuda: events are recorded in streams of their own context and waited for in any") {
  const World world("hold=1");
  const auto second = world.retain(1);
  const Event event = world.event();
  const Stream stream = world.stream();
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  const Stream other = world.stream();
  CHECK(world.cuda.event_record(event, other) == Error::kInvalidHandle);
  REQUIRE(world.cuda.event_record(event, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_wait_event(other, event, 0) == Error::kSuccess);
  CHECK(world.sim.step(other, 1) == 0);
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.sim.step(other, 1) == 1);
}

TEST_CASE("sim-cuda: a stream can write a value and wait for one") {
  const World world("hold=1");
  const DevicePtr cell = world.allocate(64, 0);
  const Stream writer = world.stream();
  const Stream waiter = world.stream();
  REQUIRE(world.cuda.stream_wait_value_64(waiter, cell, 5, 0) == Error::kSuccess);
  CHECK(world.sim.step(waiter, 1) == 0);
  REQUIRE(world.cuda.stream_write_value_64(writer, cell, 4, 0) == Error::kSuccess);
  CHECK(world.sim.step(writer, 1) == 1);
  CHECK(world.sim.step(waiter, 1) == 0);
  REQUIRE(world.cuda.stream_write_value_64(writer, cell, 6, 0) == Error::kSuccess);
  CHECK(world.sim.step(writer, 1) == 1);
  CHECK(world.sim.step(waiter, 1) == 1);
  CHECK(world.cuda.stream_wait_value_64(waiter, cell + 1, 5, 0) == Error::kInvalidValue);
  world.sim.set("stream_values=0");
  CHECK(world.cuda.stream_wait_value_64(waiter, cell, 5, 0) == Error::kNotSupported);
}

TEST_CASE("sim-cuda: a stream notices a value that the CPU writes into mapped memory") {
  const World world;
  Pinned host(4096, 0);
  const DevicePtr cell = world.allocate(1, 0);
  const Stream stream = world.stream();
  auto& value = *reinterpret_cast<std::uint64_t*>((host.address() + 7) / 8 * 8);
  REQUIRE(world.cuda.stream_wait_value_64(stream, reinterpret_cast<DevicePtr>(&value), 1, 1) == Error::kSuccess);
  REQUIRE(world.cuda.memset_d8_async(cell, 1, 1, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_query(stream) == Error::kNotReady);
  __atomic_store_n(&value, std::uint64_t{1}, __ATOMIC_SEQ_CST);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  CHECK(world.read(cell, 1).front() == 1);
}
