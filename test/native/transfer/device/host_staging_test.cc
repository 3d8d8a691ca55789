// Registered buffers for blocks that have no host slot: bounded, given back, and done without where there are none.
#include "transfer/device/host_staging.h"

#include "native/transfer/device/device_rig.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kBlocks = 12;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

void put_on_disk(DeviceRig& rig) {
  rig.fill(rig.host, 0, kBlocks);
  rig.arrive(rig.request(TransferPath::kSeal, rig.host, rig.host, 0, kBlocks));
  rig.arrive(rig.store(0, kBlocks));
}

TransferRequest load_without_host_slots(DeviceRig& rig) {
  return rig.request(TransferPath::kSlabToMemory, rig.disk, rig.device, 0, kBlocks);
}

TEST_CASE("what comes from disk without a host slot is copied by the GPU itself") {
  for (const bool both_devices : {false, true}) {
    CAPTURE(both_devices);
    DeviceRigOptions options;
    options.both_devices = both_devices;
    options.shape.parts = both_devices ? 2 : 1;
    Machine machine;
    DeviceRig rig(machine, options);
    put_on_disk(rig);
    rig.wipe_device();
    const std::uint64_t before = machine.sim.count("pageable_copies");
    rig.arrive(load_without_host_slots(rig));
    rig.arrive(rig.load(0, kBlocks));
    CHECK(machine.sim.count("pageable_copies") == before);
    CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
  }
}

TEST_CASE("a buffer is not used again before the GPU has read it") {
  Machine machine;
  DeviceRig rig(machine);
  put_on_disk(rig);
  rig.wipe_device();
  machine.sim.hold();
  std::vector<std::uint32_t> tickets;
  // More than there are buffers: the last ones are copied through the driver's.
  for (std::uint32_t block = 0; block < kBlocks; ++block) {
    tickets.push_back(rig.start(rig.request(TransferPath::kSlabToMemory, rig.disk, rig.device, block, 1)));
  }
  REQUIRE(machine.sim.wait_for_calls("cuEventRecord", HostStaging::kMostBuffers, 20'000) != 0);
  machine.sim.release();
  for (const std::uint32_t ticket : tickets) CHECK(rig.reports.settled(ticket).code == Code::kOk);
  CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
}

TEST_CASE("where no buffer can be registered, blocks pass through the thread's own") {
  Machine machine;
  machine.sim.fail_call("cuMemHostRegister", 1, 2, 0);
  DeviceRigOptions options;
  options.pinned = false;
  DeviceRig rig(machine, options);
  CHECK(machine.sim.count("registrations") == 0);
  machine.sim.fail_nothing();
  put_on_disk(rig);
  rig.wipe_device();
  rig.arrive(load_without_host_slots(rig));
  CHECK(machine.sim.count("pageable_copies") > 0);
  CHECK(rig.right(rig.device, 0, kBlocks) == kBlocks);
}

TEST_CASE("buffers are as many as their bounds leave, and larger ones take the place of smaller ones") {
  Machine machine;
  {
    HostStaging staging(machine.contexts[0]);
    CHECK(staging.take(1).is_empty());
    staging.make_room(4095);
    // One registration, whatever the number of buffers.
    CHECK(machine.sim.count("registrations") == 1);
    std::vector<HostStaging::Hold> held;
    for (std::uint32_t i = 0; i < HostStaging::kMostBuffers; ++i) {
      held.push_back(staging.take(i % 2 == 0 ? 4096 : 1));
      REQUIRE(!held.back().is_empty());
      CHECK(held.back().part().is_registered);
      REQUIRE(held.back().bytes().size() == 4096);
      std::memset(held.back().bytes().data(), static_cast<int>(i), 4096);
    }
    for (std::uint32_t i = 0; i < HostStaging::kMostBuffers; ++i) {
      CHECK(held[i].bytes()[0] == std::byte(i));
      CHECK(held[i].bytes()[4095] == std::byte(i));
      CHECK(held[i].part().device_address - held[0].part().device_address ==
            static_cast<std::uint64_t>(held[i].bytes().data() - held[0].bytes().data()));
    }
    CHECK(staging.take(1).is_empty());
    held.pop_back();
    CHECK(staging.take(4097).is_empty());
    CHECK(!staging.take(4096).is_empty());

    // The former memory stays as long as somebody holds some of it.
    staging.make_room(HostStaging::kMostBytes / 2 - 1);
    CHECK(machine.sim.count("registrations") == 2);
    held.clear();
    CHECK(machine.sim.count("registrations") == 1);
    staging.make_room(kMiB);
    CHECK(machine.sim.count("registrations") == 1);
    held.push_back(staging.take(kMiB));
    held.push_back(staging.take(HostStaging::kMostBytes / 2));
    CHECK(!held.back().is_empty());
    CHECK(staging.take(1).is_empty());
    held.clear();
    staging.make_room(HostStaging::kMostBytes + 1);
    CHECK(machine.sim.count("registrations") == 0);
    CHECK(staging.take(1).is_empty());
  }
  CHECK(machine.sim.count("registrations") == 0);
}

TEST_CASE("a buffer that is held may outlive those that it belongs to") {
  Machine machine;
  HostStaging::Hold held;
  {
    HostStaging staging(machine.contexts[0]);
    staging.make_room(4096);
    held = staging.take(4096);
  }
  REQUIRE(!held.is_empty());
  held.bytes()[0] = std::byte{1};
  held = {};
  CHECK(machine.sim.count("registrations") == 0);
}

}  // namespace
}  // namespace kvtier
