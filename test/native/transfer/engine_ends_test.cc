// How a client of the engine ends: what it waits for, what it leaves behind, and what becomes of that.
#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "native/transfer/rig.h"
#include "transfer/engine.h"

namespace kvtier {
namespace {

constexpr std::chrono::milliseconds kNoPatience{0};

void expect_closed(Rig& rig) {
  CHECK(rig.client->submit(rig.request(TransferPath::kSlabCheck, 5, 0, 1)).code() == Code::kClosed);
  CHECK(rig.client->start(6, Lane::kShort, {}, [] { return TaskOutcome{}; }).code() == Code::kClosed);
  CHECK(rig.client->adopt(make_memory(LayoutKind::kContiguous, small_shape(), 1)).status().code() == Code::kClosed);
  CHECK(rig.client->close(rig.disk, 7).code() == Code::kClosed);
  CHECK(rig.client->hold(rig.disk).code() == Code::kClosed);
  rig.client->cancel(1, Code::kAborted);
  rig.client->retire(rig.disk);
  rig.client->shutdown();
}

// Lets go of the storages, so that the engine is the last to hold the disk; false while it does.
bool is_gone(Rig& rig) {
  rig.host = rig.device = rig.disk = nullptr;
  return rig.control.is_destroyed();
}

// An engine stays for what was left to it, and goes with the first client that ends after that.
struct EngineEnds {
  EngineEnds() = default;
  EngineEnds(const EngineEnds&) = delete;
  EngineEnds& operator=(const EngineEnds&) = delete;
  ~EngineEnds() {
    for (std::weak_ptr<Engine> engine = of_one_client(); !engine.expired(); engine = of_one_client()) {
      std::this_thread::yield();
    }
  }
  // The engine of a client that has come and gone.
  static std::weak_ptr<Engine> of_one_client() {
    Reports reports;
    auto client = EngineClient::open({}, reports);
    REQUIRE(client.is_ok());
    return Engine::acquire(0).value();
  }
};

TEST_CASE("shutdown waits for what touches memory that was lent, drops what waits, and reports nothing afterwards") {
  // Before the rig, whose client uses it to the end.
  auto memory = HostBuffer::allocate(small_shape().slot_stride() * kSlots);
  REQUIRE(memory.is_ok());
  Rig rig;
  const std::array<std::span<std::byte>, 1> regions = {{{memory.value().data(), memory.value().size()}}};
  auto borrowed = MemoryStorage::borrow(LayoutKind::kContiguous, small_shape(), kSlots, regions);
  REQUIRE(borrowed.is_ok());
  rig.control.gate.shut();
  TransferRequest load = rig.request(TransferPath::kSlabToMemory, 1, 0, 1);
  load.target = rig.adopt(std::move(borrowed).value());
  rig.start(std::move(load));
  rig.control.gate.wait_for(1);
  rig.start_erase(2, rig.disk, 9);
  rig.control.gate.wait_for(2);
  rig.start_erase(3, rig.disk, 10);
  const unsigned before = rig.reports.count();
  std::atomic<bool> ended{false};
  std::thread stopper([&] {
    rig.client->shutdown(kNoPatience);
    ended = true;
  });
  while (rig.client->hold(rig.host).is_ok()) rig.client->release(rig.host);
  // The load is held, so shutdown has begun and cannot have returned.
  CHECK_FALSE(ended);
  rig.control.gate.open();
  stopper.join();
  CHECK(rig.reports.count() == before);
  for (const std::string& line : rig.control.entries()) CHECK(line != "erase 10+1");
  expect_closed(rig);
}

// A share that says on which thread it went.
std::shared_ptr<const void> share_of(std::atomic<std::thread::id>& end) {
  return {&end, [&end](const void*) { end = std::this_thread::get_id(); }};
}

TEST_CASE("what a client lets go of goes on another thread, however many calls have not ended") {
  EngineOptions options;
  options.queue_tasks = 1;
  // Outlives the engine's threads, which pass it.
  Gate gate;
  gate.shut();
  Rig rig(4, options);
  rig.start_held(1, Lane::kLong, gate);
  CHECK(rig.client->start(2, Lane::kShort, {}, [] { return TaskOutcome{}; }).code() == Code::kQueueFull);
  std::atomic<std::thread::id> end{};
  rig.client->let_go(share_of(end));
  while (end.load() == std::thread::id()) std::this_thread::yield();
  CHECK(end.load() != std::this_thread::get_id());
  gate.open();
}

TEST_CASE("what a client that has ended lets go of goes at once") {
  Rig rig;
  rig.client->shutdown();
  std::atomic<std::thread::id> end{};
  rig.client->let_go(share_of(end));
  CHECK(end.load() == std::this_thread::get_id());
}

TEST_CASE("shutdown waits for tasks that touch no disk") {
  Rig rig;
  Gate gate;
  gate.shut();
  rig.start_held(1, Lane::kLong, gate);
  gate.wait_for(1);
  std::atomic<bool> ended{false};
  std::thread stopper([&] {
    rig.client->shutdown(kNoPatience);
    ended = true;
  });
  while (rig.client->hold(rig.disk).is_ok()) rig.client->release(rig.disk);
  CHECK_FALSE(ended);
  gate.open();
  stopper.join();
}

TEST_CASE("shutdown does not wait for a disk that does not answer, and what it left ends with the disk") {
  const EngineEnds ends;
  Rig rig;
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2, true));
  rig.start_erase(2, rig.disk, 9);
  rig.control.gate.wait_for(2);
  rig.start(rig.request(TransferPath::kSlabToMemoryVia, 3, 10, 2, true));
  const unsigned before = rig.reports.count();
  rig.client->shutdown(kNoPatience);
  expect_closed(rig);
  CHECK_FALSE(is_gone(rig));
  rig.control.gate.open();
  while (!is_gone(rig)) std::this_thread::yield();
  CHECK(rig.reports.count() == before);
  for (const std::string& line : rig.control.entries()) CHECK(line != "read 10+2");
}

TEST_CASE("a disk that answers soon is waited for, so that files are closed when a client has ended") {
  Rig rig;
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabCheck, 1, 0, 2));
  rig.control.gate.wait_for(1);
  std::thread stopper([&] { rig.client->shutdown(std::chrono::hours(1)); });
  while (rig.client->hold(rig.disk).is_ok()) rig.client->release(rig.disk);
  rig.control.gate.open();
  stopper.join();
  CHECK(is_gone(rig));
}

TEST_CASE("a storage whose close hangs does not hold a client's end up") {
  const EngineEnds ends;
  Rig rig;
  rig.control.holds_end = true;
  rig.control.gate.shut();
  CHECK(rig.client->close(rig.disk, 1).is_ok());
  rig.control.gate.wait_for(1);
  rig.client->shutdown(kNoPatience);
  CHECK(rig.reports.now(1).done == 0);
  rig.control.gate.open();
  while (!rig.control.is_destroyed()) std::this_thread::yield();
  CHECK(rig.reports.count() == 0);
}

TEST_CASE("an opening that outlasts its client opens nothing") {
  const EngineEnds ends;
  Rig rig;
  Gate gate;
  gate.shut();
  std::atomic<int> code{-1};
  rig.start_task(1, Lane::kDisk, {}, [&] {
    gate.pass();
    code = static_cast<int>(rig.client->adopt(make_memory(LayoutKind::kContiguous, small_shape(), 1)).status().code());
  });
  gate.wait_for(1);
  rig.client->shutdown(kNoPatience);
  gate.open();
  while (code < 0) std::this_thread::yield();
  CHECK(code == static_cast<int>(Code::kClosed));
}

TEST_CASE("an engine with work that was left stays the process's, with the limits of its disks, until a client goes") {
  const EngineEnds ends;
  Rig rig(kMinEngineThreads);
  rig.control.gate.shut();
  rig.start(rig.request(TransferPath::kSlabCheck, 1, 0, 1));
  rig.control.gate.wait_for(1);
  const std::weak_ptr<Engine> seen = Engine::acquire(0).value();
  rig.client->shutdown(kNoPatience);
  CHECK_FALSE(seen.expired());
  {
    Rig next;
    CHECK(Engine::acquire(0).value() == seen.lock());
    // The disk of both is taken to be hung; what needs none goes on.
    next.start(next.request(TransferPath::kSlabCheck, 1, 20, 1));
    next.run(next.request(TransferPath::kFillPattern, 2, 0, 4));
    CHECK(next.control.entries().empty());
    rig.control.gate.open();
    CHECK(next.reports.settled(1).code == Code::kOk);
  }
}

TEST_CASE("another client goes on while one shuts down") {
  Rig rig(2);
  Rig other(2);
  rig.control.gate.shut();
  Gate gate;
  gate.shut();
  rig.start_held(1, Lane::kLong, gate);
  gate.wait_for(1);
  std::thread stopper([&] { rig.client->shutdown(); });
  other.store(0, 5);
  gate.open();
  stopper.join();
  other.all_arrived(other.run(other.request(TransferPath::kSlabToMemoryVia, 1, 0, 5)));
}

}  // namespace
}  // namespace kvtier
