// What goes on while a disk does not answer: everything that does not need that disk.
#include <numeric>

#include "native/transfer/rig.h"
#include "transfer/engine.h"

namespace kvtier {
namespace {

// Loads of one block each, far below the bytes that may be in flight, all held.
void hang(Rig& rig, std::uint32_t first_ticket, std::uint32_t count = kSlots) {
  rig.control.gate.shut();
  for (std::uint32_t i = 0; i < count; ++i) {
    rig.start(rig.request(TransferPath::kSlabToMemoryVia, first_ticket + i, i % kSlots, 1, true));
  }
}

TEST_CASE("a disk that hangs takes all threads but two, and copies, hashing and opening go on") {
  Rig rig(8);
  hang(rig, 1);
  rig.control.gate.wait_for(6);
  for (std::uint32_t ticket = 1; ticket <= kSlots; ++ticket) rig.client->cancel(ticket, Code::kDeadline);
  for (std::uint32_t ticket = 1; ticket <= kSlots; ++ticket) {
    check_all(rig.reports.done(ticket), Code::kDeadline, Stage::kNowhere);
  }
  TransferRequest onboard = rig.request(TransferPath::kMemoryToMemory, 100, 0, 4);
  onboard.onboard = true;
  rig.all_arrived(rig.run(std::move(onboard)));
  rig.all_arrived(rig.run(rig.request(TransferPath::kFillPattern, 101, 40, 4)));
  for (const Lane lane : {Lane::kShort, Lane::kLong}) {
    rig.start_task(102 + static_cast<std::uint32_t>(lane), lane, {}, [] {});
    rig.reports.settled(102 + static_cast<std::uint32_t>(lane));
  }
  Rig other;
  other.run(other.request(TransferPath::kFillPattern, 1, 0, 4));
  CHECK(rig.control.gate.waiting() == 6);
  CHECK(rig.control.entries().size() == 6);
  rig.control.gate.open();
}

TEST_CASE("as many bytes in flight as there may be stop no copies, and no other disk") {
  const std::uint64_t stride = small_shape().slot_stride();
  Rig rig(8, {.read_bytes_in_flight = 2 * stride, .write_bytes_in_flight = 2 * stride});
  DiskControl other_control;
  const auto other = rig.add_disk(other_control, 2);
  hang(rig, 1);
  rig.control.gate.wait_for(2);
  TransferRequest onboard = rig.request(TransferPath::kMemoryToMemory, 100, 0, 40);
  onboard.onboard = true;
  rig.all_arrived(rig.run(std::move(onboard)));
  TransferRequest check = rig.request(TransferPath::kSlabCheck, 101, 0, 1);
  check.source = check.target = other;
  CHECK(rig.run(std::move(check)).done == 1);
  CHECK(rig.control.gate.waiting() == 2);
  rig.control.gate.open();
}

TEST_CASE("a disk that hangs does not hold another disk up, with as few threads as there can be") {
  Rig rig(1);
  DiskControl other_control;
  const auto other = rig.add_disk(other_control, 2);
  hang(rig, 1);
  rig.control.gate.wait_for(1);
  TransferRequest write = rig.request(TransferPath::kMemoryToSlab, 100, 0, 4);
  write.target = other;
  rig.all_arrived(rig.run(std::move(write)));
  TransferRequest check = rig.request(TransferPath::kSlabCheck, 101, 0, 4);
  check.source = check.target = other;
  rig.run(std::move(check));
  rig.start_erase(102, other, 3);
  rig.reports.settled(102);
  CHECK(rig.client->close(other, 103).is_ok());
  rig.reports.settled(103);
  // Nor opening one.
  rig.start_task(104, Lane::kDisk, {}, [] {});
  rig.reports.settled(104);
  rig.control.gate.open();
}

TEST_CASE("two disks that hang leave memory its thread") {
  Rig rig(3);
  DiskControl other_control;
  const auto other = rig.add_disk(other_control, 2);
  hang(rig, 1);
  rig.control.gate.wait_for(1);
  other_control.gate.shut();
  for (std::uint32_t i = 0; i < 8; ++i) rig.start_erase(100 + i, other, i);
  other_control.gate.wait_for(1);
  rig.run(rig.request(TransferPath::kFillPattern, 200, 0, 4));
  rig.start_task(201, Lane::kShort, {}, [] {});
  rig.reports.settled(201);
  CHECK(rig.reports.now(100).done == 0);
  rig.control.gate.open();
  other_control.gate.open();
  rig.reports.settled(107);
}

TEST_CASE("an erase that hangs holds up neither hashing nor closing memory") {
  Rig rig;
  rig.control.gate.shut();
  rig.start_erase(1, rig.disk, 3);
  rig.control.gate.wait_for(1);
  rig.start_task(2, Lane::kShort, {}, [] {});
  rig.reports.settled(2);
  CHECK(rig.client->close(rig.device, 3).is_ok());
  rig.reports.settled(3);
  CHECK(rig.reports.now(1).done == 0);
  rig.control.gate.open();
  rig.reports.settled(1);
}

TEST_CASE("a sync that hangs holds up neither opening memory nor opening a disk") {
  Rig rig;
  rig.control.gate.shut();
  rig.start_sync(1, rig.disk);
  rig.control.gate.wait_for(1);
  rig.start_task(2, Lane::kLong, {}, [] {});
  rig.reports.settled(2);
  rig.start_task(3, Lane::kDisk, {}, [] {});
  rig.reports.settled(3);
  CHECK(rig.reports.now(1).done == 0);
  rig.control.gate.open();
  rig.reports.settled(1);
}

TEST_CASE("a close that hangs holds up nothing else") {
  Rig rig;
  rig.control.holds_end = true;
  rig.control.gate.shut();
  CHECK(rig.client->close(rig.disk, 1).is_ok());
  rig.control.gate.wait_for(1);
  CHECK(rig.client->close(rig.host, 2).is_ok());
  rig.reports.settled(2);
  rig.start_task(3, Lane::kShort, {}, [] {});
  rig.reports.settled(3);
  CHECK(rig.reports.now(1).done == 0);
  rig.control.gate.open();
  rig.reports.settled(1);
}

TEST_CASE("tasks are refused when too many have not ended, and taken again when there is room") {
  Rig rig(4, {.queue_tasks = 3});
  rig.control.gate.shut();
  for (std::uint32_t ticket = 1; ticket <= 3; ++ticket) rig.start_erase(ticket, rig.disk, ticket);
  for (const Lane lane : {Lane::kShort, Lane::kDisk}) {
    CHECK(rig.client->start(4, lane, {}, [] { return TaskOutcome{}; }).code() == Code::kQueueFull);
  }
  // A close is always taken.
  CHECK(rig.client->close(rig.host, 5).is_ok());
  rig.reports.settled(5);
  rig.control.gate.open();
  rig.reports.settled(3);
  while (!rig.client->start(6, Lane::kShort, {}, [] { return TaskOutcome{}; }).is_ok()) {
  }
  rig.reports.settled(6);
}

TEST_CASE("work that comes when every thread sleeps, or none does, is always begun") {
  Rig rig(8);
  std::uint32_t ticket = 0;
  for (int round = 0; round < 200; ++round) {
    // One alone, then several at once: of copies one at a time may run, of reads and tasks several.
    rig.run(rig.request(TransferPath::kFillPattern, ++ticket, 0, 1));
    const std::uint32_t first = ticket + 1;
    for (std::uint32_t i = 0; i < 6; ++i) {
      rig.start(rig.request(i % 2 == 0 ? TransferPath::kSlabCheck : TransferPath::kSeal, ++ticket, i, 1));
      rig.start_task(++ticket, i % 2 == 0 ? Lane::kDisk : Lane::kShort, {}, [] {});
    }
    for (std::uint32_t each = first; each <= ticket; ++each) rig.reports.settled(each);
  }
}

}  // namespace
}  // namespace kvtier
