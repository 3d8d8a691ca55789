// What the engine promises about order, limits, cancelling, closing and ending, with threads held where it matters.
#include "transfer/engine.h"

#include <thread>

#include "native/transfer/rig.h"

namespace kvtier {
namespace {

TEST_CASE("the first client starts the engine, later ones share it, the last one ends it") {
  Reports reports;
  std::weak_ptr<Engine> seen;
  {
    auto first = EngineClient::open({.threads = 3}, reports);
    REQUIRE(first.is_ok());
    auto engine = Engine::acquire(7);
    REQUIRE(engine.is_ok());
    CHECK(engine.value()->thread_count() == 3);
    seen = engine.value();
    auto second = EngineClient::open({.threads = 5}, reports);
    REQUIRE(second.is_ok());
    first.value()->shutdown();
  }
  CHECK(seen.expired());
  const auto again = Engine::acquire(1);
  REQUIRE(again.is_ok());
  // One for memory, one for a disk, one for another disk.
  CHECK(again.value()->thread_count() == 3);
}

TEST_CASE("a transfer that is cancelled while it waits is done and settled at once, and nothing was read") {
  Rig rig(1);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2));
  rig.control.gate.wait_for(1);
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 2, 10, 3));
  rig.client->cancel(2, Code::kDeadline);
  const Reports::Entry entry = rig.reports.settled(2);
  CHECK(entry.code == Code::kDeadline);
  check_all(entry, Code::kDeadline, Stage::kNowhere);
  CHECK(entry.outcomes.size() == 3);
  rig.control.gate.open();
  rig.reports.settled(1);
  CHECK(rig.control.entries().front() == "read 0+2");
  for (const std::string& line : rig.control.entries()) CHECK(line != "read 10+3");
}

TEST_CASE("a transfer that is cancelled while it runs is done at once and settles when its operation ends") {
  Rig rig(1);
  rig.store(0, 2);
  const auto via = rig.adopt(make_memory(LayoutKind::kContiguous, small_shape(), kSlots));
  TransferRequest request = rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2, true);
  request.via = via;
  rig.control.gate.shut();
  rig.start(std::move(request));
  rig.control.gate.wait_for(1);
  rig.client->cancel(1, Code::kAborted);
  const Reports::Entry done = rig.reports.done(1);
  check_all(done, Code::kAborted, Stage::kNowhere);
  CHECK(done.settled == 0);
  rig.control.gate.open();
  const Reports::Entry settled = rig.reports.settled(1);
  CHECK(settled.done == 1);
  CHECK(settled.settled == 1);
  CHECK(settled.in_order);
  CHECK(via->storage().checksum_at(0) == Checksum{});
}

TEST_CASE("blocks that arrived before a cancel stay hits") {
  Rig rig(1);
  rig.store(0, 6);
  TransferRequest request = rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 6);
  // Two runs: slots 0 to 2 and 20 to 22.
  for (std::uint32_t i = 3; i < 6; ++i) request.moves[i].source = 17 + i;
  rig.control.gate.shut();
  rig.start(std::move(request));
  rig.control.gate.wait_for(1);
  rig.control.gate.let_one();
  while (rig.control.entries().back() != "read 20+3") std::this_thread::yield();
  rig.control.gate.wait_for(1);
  rig.client->cancel(1, Code::kDeadline);
  const Reports::Entry done = rig.reports.done(1);
  for (std::uint32_t i = 0; i < 6; ++i) {
    CHECK(done.outcomes[i] == (i < 3 ? make_outcome(Code::kOk, Stage::kTarget) : miss(Code::kDeadline)));
  }
  rig.control.gate.open();
  CHECK(rig.reports.settled(1).in_order);
}

TEST_CASE("cancelling what has ended, or never was, does nothing") {
  Rig rig;
  rig.run(rig.request(TransferPath::kFillPattern, 1, 0, 3));
  rig.client->cancel(1, Code::kAborted);
  rig.client->cancel(99, Code::kAborted);
  CHECK(rig.reports.now(1).done == 1);
  CHECK(rig.reports.now(1).code == Code::kOk);
  CHECK(rig.reports.now(99).done == 0);
}

TEST_CASE("a second cancel changes nothing") {
  Rig rig(1);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabCheck, 1, 0, 2));
  rig.control.gate.wait_for(1);
  rig.client->cancel(1, Code::kAborted);
  rig.client->cancel(1, Code::kDeadline);
  rig.control.gate.open();
  const Reports::Entry entry = rig.reports.settled(1);
  CHECK(entry.done == 1);
  CHECK(entry.code == Code::kAborted);
}

TEST_CASE("a full queue refuses the whole transfer and takes it when there is room again") {
  Rig rig(1, {.queue_blocks = 10});
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabCheck, 1, 0, 6));
  rig.control.gate.wait_for(1);
  rig.start(rig.request(TransferPath::kSlabCheck, 2, 0, 4));
  CHECK(rig.client->submit(rig.request(TransferPath::kSlabCheck, 3, 0, 1)).code() == Code::kQueueFull);
  rig.client->cancel(2, Code::kAborted);
  rig.reports.settled(2);
  rig.start(rig.request(TransferPath::kSlabCheck, 3, 0, 4));
  rig.control.gate.open();
  rig.reports.settled(1);
  rig.reports.settled(3);
  rig.run(rig.request(TransferPath::kSlabCheck, 4, 0, 10));
  CHECK(rig.client->submit(rig.request(TransferPath::kSlabCheck, 5, 0, 11)).code() == Code::kQueueFull);
}

TEST_CASE("a ticket in use is refused") {
  Rig rig(1);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabCheck, 1, 0, 1));
  CHECK(rig.client->submit(rig.request(TransferPath::kSlabCheck, 1, 0, 1)).code() == Code::kInvalidValue);
  rig.control.gate.open();
  CHECK(rig.reports.settled(1).settled == 1);
}

TEST_CASE("onboarding passes offloading that waits") {
  Rig rig(1);
  rig.store(0, 4);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kMemoryToSlab, 1, 0, 1));
  rig.control.gate.wait_for(1);
  rig.start(rig.request(TransferPath::kMemoryToSlab, 2, 1, 1));
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 3, 2, 1));
  rig.control.gate.open();
  rig.reports.settled(2);
  const std::vector<std::uint32_t> order = rig.reports.settled_order();
  CHECK(std::vector<std::uint32_t>(order.end() - 3, order.end()) == std::vector<std::uint32_t>{1, 3, 2});
}

TEST_CASE("while reads run, one write is in flight and no second starts") {
  Rig rig(8);
  rig.store(0, 8);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabCheck, 1, 0, 1));
  rig.control.gate.wait_for(1);
  rig.start(rig.request(TransferPath::kMemoryToSlab, 2, 2, 1));
  rig.control.gate.wait_for(2);
  rig.start(rig.request(TransferPath::kMemoryToSlab, 3, 4, 1));
  // A read behind the second write starts, so the threads have looked at the queue.
  rig.start(rig.request(TransferPath::kSlabCheck, 4, 6, 1));
  rig.control.gate.wait_for(3);
  CHECK(rig.control.gate.waiting() == 3);
  for (const std::string& line : rig.control.entries()) CHECK(line != "write 4+1");
  rig.control.gate.open();
  rig.reports.settled(3);
}

TEST_CASE("closing a storage cancels what waits, lets end what runs, and then destroys it") {
  Rig rig(1);
  rig.store(0, 2);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2));
  rig.control.gate.wait_for(1);
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 2, 10, 2));
  CHECK(rig.client->close(rig.disk, 3).is_ok());
  check_all(rig.reports.settled(2), Code::kClosed, Stage::kNowhere);
  CHECK(rig.reports.now(3).done == 0);
  CHECK_FALSE(rig.control.is_destroyed());
  CHECK(rig.client->submit(rig.request(TransferPath::kSlabToMemoryVia, 4, 0, 1)).code() == Code::kClosed);
  CHECK(rig.client->close(rig.disk, 5).code() == Code::kClosed);
  rig.control.gate.open();
  const Reports::Entry closed = rig.reports.settled(3);
  CHECK(closed.code == Code::kOk);
  CHECK(rig.control.is_destroyed());
  rig.all_arrived(rig.reports.now(1));
  CHECK(rig.reports.now(1).settled == 1);
}

TEST_CASE("a storage that nobody uses is closed at once") {
  Rig rig;
  CHECK(rig.client->close(rig.disk, 1).is_ok());
  CHECK(rig.reports.settled(1).code == Code::kOk);
  CHECK(rig.control.is_destroyed());
}

TEST_CASE("a held storage is closed when it is released") {
  Rig rig;
  CHECK(rig.client->hold(rig.disk).is_ok());
  CHECK(rig.client->close(rig.disk, 1).is_ok());
  CHECK(rig.client->hold(rig.disk).code() == Code::kClosed);
  rig.run(rig.request(TransferPath::kFillPattern, 2, 0, 1));
  CHECK_FALSE(rig.control.is_destroyed());
  rig.client->release(rig.disk);
  rig.reports.settled(1);
  CHECK(rig.control.is_destroyed());
}

TEST_CASE("a retired storage lets its transfers end and reports nothing") {
  Rig rig(1);
  rig.store(0, 2);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2));
  rig.client->retire(rig.disk);
  const unsigned before = rig.reports.count();
  rig.control.gate.open();
  rig.all_arrived(rig.reports.settled(1));
  while (!rig.control.is_destroyed()) std::this_thread::yield();
  CHECK(rig.reports.count() == before + 1);
}

TEST_CASE("a task reports its outcome, and its storages stay open meanwhile") {
  Rig rig;
  Gate gate;
  gate.shut();
  const Status status = rig.client->start(1, Lane::kLong, {rig.disk}, [&] {
    gate.pass();
    return TaskOutcome{Code::kIo, "as told", nullptr};
  });
  CHECK(status.is_ok());
  CHECK(rig.client->close(rig.disk, 2).is_ok());
  gate.wait_for(1);
  CHECK_FALSE(rig.control.is_destroyed());
  gate.open();
  const Reports::Entry entry = rig.reports.settled(1);
  CHECK(entry.code == Code::kIo);
  CHECK(entry.message == "as told");
  rig.reports.settled(2);
  CHECK(rig.client->start(3, Lane::kLong, {rig.disk}, [] { return TaskOutcome{}; }).code() == Code::kClosed);
}

TEST_CASE("a long task does not hold up transfers or short tasks") {
  Rig rig(2);
  Gate gate;
  gate.shut();
  for (const std::uint32_t ticket : {1u, 2u}) {
    CHECK(rig.client
              ->start(ticket, Lane::kLong, {},
                      [&] {
                        gate.pass();
                        return TaskOutcome{};
                      })
              .is_ok());
  }
  gate.wait_for(1);
  rig.run(rig.request(TransferPath::kFillPattern, 3, 0, 4));
  CHECK(rig.client->start(4, Lane::kShort, {}, [] { return TaskOutcome{}; }).is_ok());
  rig.reports.settled(4);
  CHECK(rig.reports.now(2).done == 0);
  gate.open();
  rig.reports.settled(2);
}

TEST_CASE("cancels, closes and transfers of many threads keep every promise of order") {
  Rig rig(4, {.read_bytes_in_flight = 64 * 1024, .write_bytes_in_flight = 64 * 1024});
  rig.store(0, kSlots);
  constexpr std::uint32_t kTransfers = 400;
  for (std::uint32_t ticket = 1; ticket <= kTransfers; ++ticket) {
    // Of these, many may work on the same slots at once.
    const TransferPath path = ticket % 3 == 0   ? TransferPath::kSlabCheck
                              : ticket % 3 == 1 ? TransferPath::kSeal
                                                : TransferPath::kCheckPattern;
    rig.start(rig.request(path, ticket, ticket % 32, 32));
    if (ticket % 2 == 0) rig.client->cancel(ticket - ticket % 5, Code::kAborted);
  }
  CHECK(rig.client->close(rig.disk, kTransfers + 1).is_ok());
  for (std::uint32_t ticket = 1; ticket <= kTransfers; ++ticket) {
    const Reports::Entry entry = rig.reports.settled(ticket);
    REQUIRE(entry.done == 1);
    REQUIRE(entry.settled == 1);
    REQUIRE(entry.in_order);
    REQUIRE(entry.outcomes.size() == 32);
    for (const Outcome outcome : entry.outcomes) {
      const Code code = code_of(outcome);
      REQUIRE((code == Code::kOk || code == Code::kAborted || code == Code::kClosed));
    }
  }
  CHECK(rig.reports.settled(kTransfers + 1).code == Code::kOk);
  CHECK(rig.control.is_destroyed());
}

}  // namespace
}  // namespace kvtier
