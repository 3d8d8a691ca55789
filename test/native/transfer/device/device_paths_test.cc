#include "native/transfer/device/device_rig.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kBlocks = 20;

void round_trip(Machine& machine, const DeviceRigOptions& options) {
  DeviceRig rig(machine, options);
  rig.fill(rig.device, 0, kBlocks);
  CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
  rig.arrive(rig.offload(0, kBlocks));
  CHECK(rig.right(rig.host, 0, kBlocks) == kBlocks);
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    CHECK(rig.host->storage().checksum_at(i) == checksum_block(rig.host->storage().view(), i, seed_of(hash_of(i))));
  }
  rig.arrive(rig.store(0, kBlocks));
  rig.wipe_device();
  CHECK(rig.right(rig.device, 0, kBlocks) == 0);
  rig.arrive(rig.onboard(0, kBlocks));
  CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
  rig.wipe_device();
  rig.arrive(rig.load(0, kBlocks));
  CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
}

TEST_CASE("blocks go from a device to host memory and disk and come back as they were, in every layout") {
  for (const LayoutKind kind : {LayoutKind::kContiguous, LayoutKind::kLayersKvOuter, LayoutKind::kLayersKvInner}) {
    for (const bool pinned : {true, false}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(pinned);
      Machine machine;
      round_trip(machine, {.kind = kind, .pinned = pinned});
    }
  }
}

TEST_CASE("blocks whose parts lie on two devices are held and come back whole") {
  for (const LayoutKind kind : {LayoutKind::kContiguous, LayoutKind::kLayersKvOuter, LayoutKind::kLayersKvInner}) {
    Machine machine;
    DeviceRigOptions options{.kind = kind, .both_devices = true};
    options.shape.parts = 2;
    round_trip(machine, options);
  }
}

TEST_CASE("several parts on one device are one part of the device's") {
  Machine machine;
  DeviceRigOptions options;
  options.shape.parts = 3;
  round_trip(machine, options);
}

TEST_CASE("late work in a drawn order changes no byte") {
  for (int seed = 1; seed <= 10; ++seed) {
    Machine machine("lateness_us=50 seed=" + std::to_string(seed));
    round_trip(machine, {});
  }
}

TEST_CASE("copies between two devices, and within one, keep the bytes") {
  for (const std::size_t other : {0U, 1U}) {
    Machine machine;
    DeviceRig rig(machine);
    auto allocated = DeviceStorage::allocate(std::span(&machine.contexts[other], 1), LayoutKind::kLayersKvOuter,
                                             rig.options.shape, rig.options.slots);
    REQUIRE(allocated.is_ok());
    const std::shared_ptr<SharedStorage> second = rig.adopt(std::move(allocated).value());
    rig.fill(rig.device, 0, kBlocks);
    rig.arrive(rig.request(TransferPath::kMemoryToMemory, rig.device, second, 0, kBlocks));
    CHECK(rig.right(second, 0, kBlocks) == kBlocks);
  }
}

TEST_CASE("a block that the disk does not give back right never reaches the device as right") {
  Machine machine;
  DeviceRig rig(machine);
  rig.fill(rig.host, 0, kBlocks);
  rig.arrive(rig.request(TransferPath::kSeal, rig.host, rig.host, 0, kBlocks));
  rig.arrive(rig.store(0, kBlocks));
  static_cast<FakeDisk&>(rig.disk->storage()).at(3)[100] ^= std::byte{1};
  {
    const std::lock_guard guard(rig.control.mutex);
    rig.control.bad_slots = {6};
  }
  const Reports::Entry entry = rig.run(rig.load(0, kBlocks));
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    CAPTURE(i);
    CHECK(code_of(entry.outcomes[i]) == (i == 3 ? Code::kChecksum : i == 6 ? Code::kIo : Code::kOk));
  }
  CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks - 2);
}

TEST_CASE("what a device cannot do is refused when it is asked for") {
  Machine machine;
  DeviceRig rig(machine);
  const auto refused = [&](TransferRequest&& request, Code code) {
    const Status status = rig.client->submit(std::move(request));
    CHECK(status.code() == code);
    CHECK(!status.message().empty());
  };
  refused(rig.request(TransferPath::kMemoryToSlab, rig.device, rig.disk, 0, 4), Code::kInvalidValue);
  refused(rig.request(TransferPath::kSeal, rig.device, rig.device, 0, 4), Code::kInvalidValue);
  refused(rig.request(TransferPath::kMemoryToMemoryChecked, rig.host, rig.device, 0, 4), Code::kInvalidValue);
  const auto layered = rig.adopt(make_memory(LayoutKind::kLayersKvInner, rig.options.shape, rig.options.slots));
  refused(rig.request(TransferPath::kMemoryToMemory, layered, rig.device, 0, 4), Code::kInvalidValue);

  auto ready = ReadyEvents::make(rig.device->links(), rig.options.shape.layers + 1);
  REQUIRE(ready.is_ok());
  TransferRequest wrong_layers = rig.onboard(0, 4);
  wrong_layers.ready = ready.value();
  refused(std::move(wrong_layers), Code::kInvalidValue);
  ProducerStream producer(rig);
  TransferRequest no_device = rig.request(TransferPath::kSeal, rig.host, rig.host, 0, 4);
  no_device.after.push_back(producer.fence());
  refused(std::move(no_device), Code::kInvalidValue);
}

}  // namespace
}  // namespace kvtier
