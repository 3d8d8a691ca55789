#include <thread>

#include "kernels/pattern.h"
#include "native/transfer/device/device_rig.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kBlocks = 8;
constexpr unsigned kTimeoutMs = 20'000;

// What arrived of a transfer: by block.
std::vector<bool> arrived(const Reports::Entry& entry) {
  std::vector<bool> blocks;
  for (const Outcome outcome : entry.outcomes) blocks.push_back(outcome == make_outcome(Code::kOk, Stage::kTarget));
  return blocks;
}

// Blocks that a transfer said have arrived hold their bytes; the device is asked directly.
void check_device_bytes(DeviceRig& rig, const std::vector<bool>& blocks) {
  const DevicePart& part = rig.device->storage().device_parts()[0];
  for (std::uint32_t i = 0; i < blocks.size(); ++i) {
    if (!blocks[i]) continue;
    std::vector<std::byte> canonical(rig.options.shape.slot_stride());
    std::uint64_t at = 0;
    for (const Fragment& fragment : part.layout->fragments()) {
      const std::uint64_t address =
          part.regions[fragment.region] + fragment.offset + fragment.step * rig.slot_in(rig.device, i);
      REQUIRE(rig.machine.sim.read(address, canonical.data() + at, fragment.length) != 0);
      at += fragment.length;
    }
    std::byte* const base = canonical.data();
    CHECK(check_pattern({&rig.device->staging_layout(), &base}, 0, hash_of(i)));
  }
}

void check_host_bytes(DeviceRig& rig, const std::vector<bool>& blocks) {
  for (std::uint32_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i]) CHECK(check_pattern(rig.host->storage().view(), i, hash_of(i)));
  }
}

// Everything that blocks go through, with a failure somewhere. Every call has one outcome, and what it calls arrived
// is.
void move_everything(DeviceRig& rig, ProducerStream& engine) {
  const auto fence = [&] { return Fence::after_stream(*rig.device->links()[0], engine.handle()); };
  TransferRequest offload = rig.offload(0, kBlocks);
  if (auto made = fence(); made.is_ok()) offload.after.push_back(std::move(made).value());
  const std::vector<bool> stored = arrived(rig.run(std::move(offload)));
  check_host_bytes(rig, stored);

  TransferRequest onboard = rig.onboard(0, kBlocks);
  std::erase_if(onboard.moves, [&](const Move& move) { return !stored[move.source]; });
  std::erase_if(onboard.hashes, [&](const SequenceHash& hash) {
    std::uint32_t number = 0;
    std::memcpy(&number, hash.data(), sizeof number);
    return !stored[number];
  });
  auto ready = ReadyEvents::make(rig.device->links(), rig.options.shape.layers);
  if (ready.is_ok()) onboard.ready = std::move(ready).value();
  const std::vector<Move> moves = onboard.moves;
  const std::vector<bool> loaded = arrived(rig.run(std::move(onboard)));
  std::vector<bool> by_block(kBlocks, false);
  for (std::size_t i = 0; i < moves.size(); ++i) by_block[moves[i].source] = loaded[i];
  check_device_bytes(rig, by_block);

  check_device_bytes(rig, arrived(rig.run(rig.load(0, kBlocks))));
}

// A run with the nth call of any function failing; false when the run had fewer calls.
bool run_with_failure(std::uint64_t nth, int code, std::uint64_t times) {
  CAPTURE(nth);
  CAPTURE(code);
  Machine machine;
  machine.most_left = times;
  machine.may_leak = times == 0;
  bool failed = false;
  {
    DeviceRig rig(machine);
    rig.fill(rig.device, 0, kBlocks);
    rig.fill(rig.host, 0, kBlocks);
    rig.arrive(rig.request(TransferPath::kSeal, rig.host, rig.host, 0, kBlocks));
    rig.arrive(rig.store(0, kBlocks));
    ProducerStream engine(rig);
    const std::uint64_t before = machine.sim.calls(nullptr);
    machine.sim.fail_call(nullptr, nth, code, times);
    move_everything(rig, engine);
    failed = machine.sim.calls(nullptr) - before >= nth;
    // What is given back now must be.
    machine.sim.fail_nothing();
  }
  return failed;
}

TEST_CASE("whichever call of the driver fails once, every block ends as it is said to") {
  std::uint64_t failures = 0;
  for (const int code : {1, 2, 999}) {
    for (std::uint64_t nth = 1; run_with_failure(nth, code, 1); ++nth) ++failures;
  }
  MESSAGE("driver calls that failed in turn: ", failures);
  CHECK(failures > 100);
}

TEST_CASE("a driver that answers nothing but errors ends every transfer as a miss") {
  for (const std::uint64_t nth : {1U, 7U, 12U, 20U}) CHECK(run_with_failure(nth, 999, 0));
}

TEST_CASE("work that fails on the device fails its transfers, and those after it at once; other tiers go on") {
  for (const bool onboard_first : {true, false}) {
    CAPTURE(onboard_first);
    Machine machine;
    machine.may_leak = true;
    DeviceRig rig(machine);
    rig.fill(rig.host, 0, kBlocks);
    rig.arrive(rig.request(TransferPath::kSeal, rig.host, rig.host, 0, kBlocks));
    machine.sim.fail_work(nullptr, 1, 700);
    const Reports::Entry first = rig.run(onboard_first ? rig.onboard(0, kBlocks) : rig.offload(8, kBlocks));
    for (const Outcome outcome : first.outcomes) CHECK(code_of(outcome) == Code::kDeviceLost);
    CHECK(!first.message.empty());
    const Reports::Entry second = rig.run(onboard_first ? rig.offload(8, kBlocks) : rig.onboard(0, kBlocks));
    for (const Outcome outcome : second.outcomes) CHECK(code_of(outcome) == Code::kDeviceLost);
    CHECK(rig.device->links()[0]->is_lost());
    rig.arrive(rig.store(0, kBlocks));
    CHECK(rig.right(rig.host, 0, kBlocks) == kBlocks);
  }
}

TEST_CASE("a device that is lost while copies are queued ends them") {
  Machine machine;
  machine.may_leak = true;
  DeviceRig rig(machine);
  rig.fill(rig.host, 0, kBlocks);
  machine.sim.hold();
  const std::uint32_t ticket = rig.start(rig.onboard(0, kBlocks));
  REQUIRE(machine.sim.wait_for_calls("cuEventRecord", 1, kTimeoutMs) != 0);
  machine.sim.lose_device(0, 700);
  machine.sim.release();
  const Reports::Entry entry = rig.reports.settled(ticket);
  for (const Outcome outcome : entry.outcomes) CHECK(code_of(outcome) == Code::kDeviceLost);
}

TEST_CASE("a storage is closed when the copies that use it have run, and a client ends without waiting for a device") {
  for (const bool close_first : {true, false}) {
    Machine machine;
    auto rig = std::make_unique<DeviceRig>(machine);
    rig->fill(rig->host, 0, kBlocks);
    machine.sim.hold();
    const std::uint32_t ticket = rig->start(rig->onboard(0, kBlocks));
    REQUIRE(machine.sim.wait_for_calls("cuEventRecord", 1, kTimeoutMs) != 0);
    if (close_first) {
      constexpr std::uint32_t kClose = 1'000'000;
      REQUIRE(rig->client->close(rig->device, kClose).is_ok());
      CHECK(rig->client->submit(rig->onboard(0, 1)).code() == Code::kClosed);
      CHECK(rig->reports.now(kClose).settled == 0);
      machine.sim.release();
      rig->arrive(rig->request(TransferPath::kFillPattern, rig->host, rig->host, 8, 2));
      CHECK(rig->reports.settled(kClose).code == Code::kOk);
      CHECK(rig->reports.settled(ticket).settled == 1);
    } else {
      rig->client->shutdown(std::chrono::milliseconds(1));
      machine.sim.release();
      // The copies run, and give back what they share, on threads of the engine's.
      while (machine.sim.count("finished_work") < 1 || rig->device.use_count() > 1) std::this_thread::yield();
    }
  }
}

}  // namespace
}  // namespace kvtier
