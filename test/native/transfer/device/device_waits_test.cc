#include "native/transfer/device/device_rig.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kBlocks = 8;
constexpr unsigned kTimeoutMs = 20'000;

bool is_byte(const std::shared_ptr<SharedStorage>& host, std::uint32_t block, std::uint64_t bytes, unsigned value) {
  const std::byte* const at = host->slot_in_place(block);
  return std::all_of(at, at + bytes, [&](std::byte byte) { return byte == std::byte(value); });
}

// The engine computes, and what it computes is offloaded.
bool offload_has_computed_bytes(bool with_fence) {
  Machine machine;
  DeviceRig rig(machine);
  rig.wipe_device();
  ProducerStream producer(rig);
  producer.hold();
  producer.compute(0x5a);
  TransferRequest offload = rig.offload(0, kBlocks);
  if (with_fence) offload.after.push_back(producer.fence());
  const std::uint32_t ticket = rig.start(std::move(offload));
  if (!with_fence) rig.reports.settled(ticket);
  if (with_fence) {
    REQUIRE(machine.sim.wait_for_calls("cuEventRecord", 2, kTimeoutMs) != 0);
    CHECK(rig.reports.now(ticket).done == 0);
  }
  producer.release();
  rig.reports.settled(ticket);
  REQUIRE(machine.sim.cuda.stream_synchronize(producer.handle()) == cuda::Error::kSuccess);
  bool right = true;
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    right = right && is_byte(rig.host, i, rig.options.shape.block_bytes(), 0x5a);
  }
  return right;
}

TEST_CASE("an offload waits for the work that its fence names") {
  CHECK(offload_has_computed_bytes(true));
}

TEST_CASE("negative control: an offload without its fence stores other bytes than were computed") {
  CHECK_FALSE(offload_has_computed_bytes(false));
}

// The engine still reads what the onboard overwrites: it copies the device's bytes away.
bool onboard_spares_what_is_read(bool with_fence) {
  Machine machine;
  DeviceRig rig(machine);
  rig.fill(rig.host, 0, kBlocks);
  rig.wipe_device();
  const DevicePart& part = rig.device->storage().device_parts()[0];
  const std::uint64_t bytes = part.layout->region_bytes()[0];
  cuda::DevicePtr copy = 0;
  REQUIRE(machine.sim.cuda.mem_alloc(&copy, bytes) == cuda::Error::kSuccess);
  bool spared = true;
  {
    ProducerStream engine(rig);
    engine.hold();
    REQUIRE(machine.sim.cuda.memcpy_dtod_async(copy, part.regions[0], bytes, engine.handle()) == cuda::Error::kSuccess);
    TransferRequest onboard = rig.onboard(0, kBlocks);
    if (with_fence) onboard.after.push_back(engine.fence());
    const std::uint32_t ticket = rig.start(std::move(onboard));
    if (with_fence) {
      REQUIRE(machine.sim.wait_for_calls("cuEventRecord", 2, kTimeoutMs) != 0);
      CHECK(rig.reports.now(ticket).done == 0);
    } else {
      rig.reports.settled(ticket);
    }
    engine.release();
    rig.reports.settled(ticket);
    REQUIRE(machine.sim.cuda.stream_synchronize(engine.handle()) == cuda::Error::kSuccess);
    std::vector<unsigned char> seen(bytes);
    REQUIRE(machine.sim.read(copy, seen.data(), bytes) != 0);
    spared = std::all_of(seen.begin(), seen.end(), [](unsigned char byte) { return byte == 0xee; });
    CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
  }
  REQUIRE(machine.sim.cuda.mem_free(copy) == cuda::Error::kSuccess);
  return spared;
}

TEST_CASE("an onboard waits for the work that its fence names") {
  CHECK(onboard_spares_what_is_read(true));
}

TEST_CASE("negative control: an onboard without its fence changes what the engine still reads") {
  CHECK_FALSE(onboard_spares_what_is_read(false));
}

// Host slots of an onboard get other bytes after `done`, before or after `settled`.
std::uint32_t right_after_reuse(bool wait_for_settled) {
  Machine machine;
  DeviceRig rig(machine);
  rig.fill(rig.host, 0, kBlocks);
  rig.wipe_device();
  machine.sim.hold();
  const std::uint32_t ticket = rig.start(rig.onboard(0, kBlocks));
  REQUIRE(machine.sim.wait_for_calls("cuEventRecord", 1, kTimeoutMs) != 0);
  rig.client->cancel(ticket, Code::kDeadline);
  const Reports::Entry done = rig.reports.done(ticket);
  CHECK(code_of(done.outcomes[0]) == Code::kDeadline);
  CHECK(rig.reports.now(ticket).settled == 0);
  if (wait_for_settled) {
    machine.sim.release();
    rig.reports.settled(ticket);
  }
  // The slots' next use: another block's bytes.
  std::memset(rig.host->slot_in_place(0), 0x11, rig.host->info().slot_stride * kBlocks);
  machine.sim.release();
  rig.reports.settled(ticket);
  return rig.right(rig.device, 0, kBlocks);
}

TEST_CASE("a transfer that was ended is not settled while its copies may run") {
  CHECK(right_after_reuse(true) == kBlocks);
}

TEST_CASE("negative control: slots that are used again before settled give wrong bytes") {
  CHECK(right_after_reuse(false) < kBlocks);
}

// The engine gives device slots to another sequence after a deadline; the old onboard's copies still come.
bool engine_bytes_survive(bool wait_for_settled) {
  Machine machine;
  DeviceRig rig(machine);
  rig.fill(rig.host, 0, kBlocks);
  ProducerStream engine(rig);
  machine.sim.hold();
  machine.sim.release_stream(engine.handle());
  const std::uint32_t ticket = rig.start(rig.onboard(0, kBlocks));
  REQUIRE(machine.sim.wait_for_calls("cuEventRecord", 1, kTimeoutMs) != 0);
  rig.client->cancel(ticket, Code::kDeadline);
  rig.reports.done(ticket);
  if (wait_for_settled) {
    machine.sim.release();
    rig.reports.settled(ticket);
  }
  engine.compute(0x77);
  while (machine.sim.step(engine.handle(), 100) > 0) {
  }
  machine.sim.release();
  rig.reports.settled(ticket);
  REQUIRE(machine.sim.cuda.stream_synchronize(engine.handle()) == cuda::Error::kSuccess);
  rig.arrive(rig.offload(0, kBlocks));
  bool survived = true;
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    survived = survived && is_byte(rig.host, i, rig.options.shape.block_bytes(), 0x77);
  }
  return survived;
}

TEST_CASE("after settled an engine may use the slots of an onboard that was ended") {
  CHECK(engine_bytes_survive(true));
}

TEST_CASE("negative control: an engine that uses slots after a deadline but before settled loses its bytes") {
  CHECK_FALSE(engine_bytes_survive(false));
}

TEST_CASE("a fence marks what was queued when it was made, and needs neither stream nor event afterwards") {
  Machine machine;
  DeviceRig rig(machine);
  rig.fill(rig.device, 0, kBlocks);
  const cuda::Functions& cuda = machine.sim.cuda;
  std::shared_ptr<const Fence> fence;
  {
    ProducerStream engine(rig);
    cuda::Event event = nullptr;
    REQUIRE(cuda.event_create(&event, cuda::kEventDisableTiming) == cuda::Error::kSuccess);
    REQUIRE(cuda.event_record(event, engine.handle()) == cuda::Error::kSuccess);
    auto made = Fence::after_event(*rig.device->links()[0], event);
    REQUIRE(made.is_ok());
    fence = std::move(made).value();
    REQUIRE(cuda.stream_synchronize(engine.handle()) == cuda::Error::kSuccess);
    engine.hold();
    engine.compute(0x33);
    // What the event marks now comes after the computation, which the fence is not about.
    REQUIRE(cuda.event_record(event, engine.handle()) == cuda::Error::kSuccess);
    TransferRequest offload = rig.offload(0, kBlocks);
    offload.after.push_back(fence);
    rig.arrive(std::move(offload));
    REQUIRE(cuda.event_destroy(event) == cuda::Error::kSuccess);
    engine.release();
    REQUIRE(cuda.stream_synchronize(engine.handle()) == cuda::Error::kSuccess);
  }
  CHECK(rig.right(rig.host, 0, kBlocks) == kBlocks);
  TransferRequest again = rig.offload(0, kBlocks);
  again.after.push_back(fence);
  rig.arrive(std::move(again));
}

TEST_CASE("many fences of one engine are captured without waiting for each other") {
  Machine machine;
  DeviceRig rig(machine);
  const cuda::Functions& cuda = machine.sim.cuda;
  std::vector<std::shared_ptr<const Fence>> fences;
  cuda::Event event = nullptr;
  REQUIRE(cuda.event_create(&event, cuda::kEventDisableTiming) == cuda::Error::kSuccess);
  for (int i = 0; i < 40; ++i) {
    auto made = Fence::after_event(*rig.device->links()[0], event);
    REQUIRE(made.is_ok());
    fences.push_back(std::move(made).value());
  }
  for (const auto& fence : fences) {
    bool passed = false;
    for (int tries = 0; tries < 1'000'000 && !passed; ++tries) {
      const Result<bool> answer = fence->is_passed();
      REQUIRE(answer.is_ok());
      passed = answer.value();
    }
    CHECK(passed);
  }
  REQUIRE(cuda.event_destroy(event) == cuda::Error::kSuccess);
}

TEST_CASE("layers become ready one after the other, and a stream that waits for a layer finds its bytes") {
  for (const LayoutKind kind : {LayoutKind::kLayersKvOuter, LayoutKind::kLayersKvInner}) {
    Machine machine;
    DeviceRig rig(machine, {.kind = kind});
    rig.fill(rig.host, 0, kBlocks);
    rig.wipe_device();
    auto made = ReadyEvents::make(rig.device->links(), rig.options.shape.layers);
    REQUIRE(made.is_ok());
    const std::shared_ptr<ReadyEvents> ready = std::move(made).value();
    machine.sim.hold();
    TransferRequest onboard = rig.onboard(0, kBlocks);
    onboard.ready = ready;
    const std::uint32_t ticket = rig.start(std::move(onboard));
    rig.reports.ready(ticket);
    CHECK(rig.reports.now(ticket).done == 0);
    const cuda::Stream stream = rig.device->links()[0]->lane(true).stream.handle();
    const cuda::Functions& cuda = machine.sim.cuda;
    for (std::size_t layer = 0; layer < ready->events().size(); ++layer) {
      CHECK(cuda.event_query(ready->events()[layer].handle()) == cuda::Error::kNotReady);
      while (cuda.event_query(ready->events()[layer].handle()) == cuda::Error::kNotReady) {
        REQUIRE(machine.sim.step(stream, 1) == 1);
      }
      if (layer + 1 < ready->events().size()) {
        CHECK(cuda.event_query(ready->events()[layer + 1].handle()) == cuda::Error::kNotReady);
      }
    }
    machine.sim.release();
    const Reports::Entry entry = rig.reports.settled(ticket);
    CHECK(entry.ready == 1);
    CHECK(entry.in_order);
    CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
  }
}

TEST_CASE("what comes from disk is ready when all of it is verified and queued, and not at all when a block is wrong") {
  Machine machine;
  DeviceRig rig(machine);
  rig.fill(rig.host, 0, kBlocks);
  rig.arrive(rig.request(TransferPath::kSeal, rig.host, rig.host, 0, kBlocks));
  rig.arrive(rig.store(0, kBlocks));
  const auto load = [&] {
    TransferRequest load = rig.load(0, kBlocks);
    auto made = ReadyEvents::make(rig.device->links(), rig.options.shape.layers);
    REQUIRE(made.is_ok());
    load.ready = std::move(made).value();
    return rig.run(std::move(load));
  };
  CHECK(load().ready == 1);
  static_cast<FakeDisk&>(rig.disk->storage()).at(5)[7] ^= std::byte{1};
  const Reports::Entry entry = load();
  CHECK(entry.ready == 0);
  CHECK(code_of(entry.outcomes[5]) == Code::kChecksum);
}

TEST_CASE("events that somebody keeps after their transfer keep no memory and no streams of the GPU") {
  Machine machine;
  std::shared_ptr<ReadyEvents> used;
  std::shared_ptr<ReadyEvents> unused;
  std::weak_ptr<DeviceLink> link;
  {
    DeviceRig rig(machine);
    rig.fill(rig.host, 0, kBlocks);
    link = rig.device->links()[0];
    for (std::shared_ptr<ReadyEvents>* const ready : {&used, &unused}) {
      auto made = ReadyEvents::make(rig.device->links(), rig.options.shape.layers);
      REQUIRE(made.is_ok());
      *ready = std::move(made).value();
    }
    TransferRequest onboard = rig.onboard(0, kBlocks);
    onboard.ready = used;
    rig.arrive(std::move(onboard));
  }
  CHECK(link.expired());
  CHECK(machine.sim.count("allocations") == 0);
  CHECK(machine.sim.count("streams") == 0);
  for (const CudaEvent& event : used->events()) {
    CHECK(machine.sim.cuda.event_query(event.handle()) == cuda::Error::kSuccess);
  }
  DeviceRig other(machine);
  TransferRequest onboard = other.onboard(0, kBlocks);
  onboard.ready = unused;
  CHECK(other.client->submit(std::move(onboard)).code() == Code::kInvalidValue);
}

}  // namespace
}  // namespace kvtier
