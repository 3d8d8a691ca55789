// The order of work, without threads.
#include "transfer/schedule.h"

#include <doctest/doctest.h>

#include <deque>

#include "native/transfer/fakes.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kOpBytes = 1000;
constexpr std::uint64_t kDisk = 7;
constexpr std::uint64_t kOtherDisk = 8;

struct Bench {
  explicit Bench(unsigned threads = 8, unsigned copies = 8) : schedule(threads, copies) {}

  std::shared_ptr<ClientState> client(std::uint64_t bytes = 1 << 30) {
    auto state = std::make_shared<ClientState>();
    state->limits = {.bytes_in_flight = {bytes, bytes}, .queue_blocks = 1 << 20, .queue_tasks = 1 << 20};
    return state;
  }

  std::shared_ptr<Batch> add(const std::shared_ptr<ClientState>& client, TransferPath path, bool onboard,
                             std::uint32_t ops, std::uint64_t op_bytes = kOpBytes, std::uint64_t disk = kDisk) {
    const auto batch = std::make_shared<Batch>();
    batch->client = client;
    batch->request.path = path;
    batch->request.onboard = onboard;
    batch->traits = traits_of(path);
    batch->disk = disk;
    batch->device = next_device;
    batch->direction =
        batch->traits.reads_disk || (onboard && !batch->traits.writes_disk) ? Direction::kRead : Direction::kWrite;
    for (std::uint32_t i = 0; i < ops; ++i) {
      batch->plan.order.push_back(i);
      batch->plan.ops.push_back({i, 1, op_bytes});
    }
    schedule.add(*batch);
    batches.push_back(batch);
    return batch;
  }

  void add_task(const std::shared_ptr<ClientState>& client, Lane lane, std::uint32_t ticket,
                const std::shared_ptr<SharedStorage>& storage = nullptr) {
    auto task = std::make_unique<Task>();
    task->client = client;
    task->lane = lane;
    task->ticket = ticket;
    if (storage) task->uses.push_back(storage);
    schedule.add(std::move(task));
    clients.push_back(client);
  }

  std::shared_ptr<SharedStorage> storage(std::uint64_t disk = kDisk) {
    auto made = SharedStorage::make(++storages, std::make_unique<FakeDisk>(small_shape(), 1, control, disk), nullptr);
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }

  // What take() gives, after a look that must know it.
  Work take() {
    const bool expected = schedule.can_start();
    Work work = schedule.take();
    CHECK(work.is_nothing() != expected);
    return work;
  }
  // The ticket of the task that starts next; 0 when it is none.
  std::uint32_t take_ticket() {
    running.push_back(take());
    return running.back().task ? running.back().task->ticket : 0;
  }
  // The batch that starts next.
  std::shared_ptr<Batch> take_batch() {
    running.push_back(take());
    return running.back().batch;
  }

  void end(Work& work) {
    schedule.finish(work);
    if (work.batch) --work.batch->running_ops;
    work = Work();
  }

  // Tasks hold their client, and its lines hold them.
  ~Bench() {
    for (const std::shared_ptr<ClientState>& each : clients) static_cast<void>(schedule.drop(*each));
  }

  const void* next_device = nullptr;  // of batches that are added
  DiskControl control;
  std::uint64_t storages = 0;
  Schedule schedule;
  std::vector<std::shared_ptr<Batch>> batches;
  std::vector<std::shared_ptr<ClientState>> clients;
  std::deque<Work> running;
};

constexpr TransferPath kRead = TransferPath::kSlabToMemoryVia;
constexpr TransferPath kWrite = TransferPath::kMemoryToSlab;
constexpr TransferPath kCopy = TransferPath::kMemoryToMemory;

TEST_CASE("onboarding starts before offloading that was submitted earlier") {
  Bench bench;
  const auto client = bench.client();
  const auto offload = bench.add(client, kCopy, false, 1);
  const auto onboard = bench.add(client, kCopy, true, 2);
  CHECK(bench.take().batch == onboard);
  CHECK(bench.take().batch == onboard);
  CHECK(bench.take().batch == offload);
  CHECK(bench.take().is_nothing());
  CHECK_FALSE(bench.schedule.can_start());
}

TEST_CASE("within a class batches start in the order of submission") {
  Bench bench;
  const auto client = bench.client();
  const auto first = bench.add(client, kRead, true, 2);
  const auto second = bench.add(client, kRead, true, 1);
  CHECK(bench.take().batch == first);
  CHECK(bench.take().batch == first);
  CHECK(bench.take().batch == second);
}

TEST_CASE("bytes in flight are bounded for each direction, and an end makes room") {
  Bench bench;
  const auto client = bench.client(2 * kOpBytes);
  bench.add(client, kRead, true, 4);
  const auto copies = bench.add(client, kCopy, false, 1);
  Work a = bench.take();
  Work b = bench.take();
  CHECK(a.batch->request.onboard);
  CHECK(b.batch->request.onboard);
  CHECK(bench.take().batch == copies);
  CHECK(bench.take().is_nothing());
  bench.end(a);
  CHECK_FALSE(bench.take().is_nothing());
  CHECK(bench.take().is_nothing());
}

TEST_CASE("an operation larger than the bound runs alone") {
  Bench bench;
  const auto client = bench.client(100);
  bench.add(client, kRead, true, 2, 1000);
  Work only = bench.take();
  CHECK_FALSE(only.is_nothing());
  CHECK(bench.take().is_nothing());
  bench.end(only);
  CHECK_FALSE(bench.take().is_nothing());
}

TEST_CASE("small operations do not pass a large one that waits for bytes") {
  Bench bench;
  const auto client = bench.client(1000);
  bench.add(client, kRead, true, 1, 100);
  const auto large = bench.add(client, kRead, true, 1, 1000);
  bench.add(client, kRead, true, 1, 100);
  Work first = bench.take();
  CHECK(bench.take().is_nothing());
  bench.end(first);
  CHECK(bench.take().batch == large);
}

TEST_CASE("one client's full budget does not stop another client") {
  Bench bench;
  const auto full = bench.client(kOpBytes);
  const auto other = bench.client(kOpBytes);
  bench.add(full, kRead, true, 2);
  const auto batch = bench.add(other, kRead, true, 1);
  CHECK(bench.take().batch->client == full);
  CHECK(bench.take().batch == batch);
}

TEST_CASE("one disk write is in flight while reads wait or run, more when there are none") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kWrite, false, 4);
  Work write = bench.take();
  bench.add(client, kRead, true, 1);
  Work read = bench.take();
  CHECK(read.batch->traits.reads_disk);
  CHECK(bench.take().is_nothing());
  bench.end(write);
  Work next = bench.take();
  CHECK(next.batch->traits.writes_disk);
  CHECK(bench.take().is_nothing());
  bench.end(read);
  CHECK(bench.take().batch->traits.writes_disk);
  CHECK(bench.take().batch->traits.writes_disk);
}

TEST_CASE("memory copies pass a disk write that waits for reads") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kWrite, false, 2);
  const auto copies = bench.add(client, kCopy, false, 1);
  bench.add(client, kRead, true, 1);
  CHECK(bench.take().batch->traits.reads_disk);
  CHECK(bench.take().batch->traits.writes_disk);
  CHECK(bench.take().batch == copies);
  CHECK(bench.take().is_nothing());
}

TEST_CASE("reads that were dropped do not hold writes back") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kWrite, false, 2);
  Work write = bench.take();
  const auto reads = bench.add(client, kRead, true, 3);
  CHECK(bench.schedule.drop_rest(*reads).size() == 3);
  CHECK(bench.take().batch->traits.writes_disk);
}

TEST_CASE("a batch whose rest was dropped starts nothing more") {
  Bench bench;
  const auto client = bench.client();
  const auto batch = bench.add(client, kCopy, true, 3);
  Work first = bench.take();
  const auto rest = bench.schedule.drop_rest(*batch);
  REQUIRE(rest.size() == 2);
  CHECK(rest[0].first == 1);
  CHECK(bench.take().is_nothing());
  CHECK(bench.schedule.drop_rest(*batch).empty());
  CHECK_FALSE(bench.schedule.can_start());
}

TEST_CASE("memory operations leave threads to others when their number is reached") {
  Bench bench(8, 1);
  const auto client = bench.client();
  const auto copies = bench.add(client, kCopy, true, 2);
  const auto reads = bench.add(client, kRead, true, 2);
  Work copy = bench.take();
  CHECK(copy.batch == copies);
  CHECK(bench.take().batch == reads);
  CHECK(bench.take().batch == reads);
  CHECK(bench.take().is_nothing());
  bench.end(copy);
  CHECK(bench.take().batch == copies);
}

TEST_CASE("tasks start before transfers, one at a time for each client and lane") {
  Bench bench;
  const auto client = bench.client();
  const auto other = bench.client();
  bench.add(client, kCopy, true, 1);
  bench.add_task(client, Lane::kShort, 1);
  bench.add_task(client, Lane::kShort, 2);
  bench.add_task(client, Lane::kLong, 3);
  bench.add_task(other, Lane::kShort, 4);
  Work first = bench.take();
  CHECK(first.task->ticket == 1);
  CHECK(bench.take().task->ticket == 3);
  CHECK(bench.take().task->ticket == 4);
  CHECK(bench.take().batch != nullptr);
  CHECK(bench.take().is_nothing());
  bench.end(first);
  CHECK(bench.take().task->ticket == 2);
}

TEST_CASE("long tasks leave a thread to transfers and short tasks") {
  Bench bench(3);
  for (const std::uint32_t ticket : {1u, 2u, 3u}) bench.add_task(bench.client(), Lane::kLong, ticket);
  bench.add(bench.client(), kCopy, false, 1);
  Work running = bench.take();
  CHECK(running.task->ticket == 1);
  CHECK(bench.take_ticket() == 2);
  CHECK(bench.take_batch() != nullptr);
  CHECK(bench.take().is_nothing());
  bench.end(running);
  CHECK(bench.take_ticket() == 3);
}

TEST_CASE("one disk leaves a thread to other disks, and all disks leave one to memory") {
  Bench bench(5);
  const auto client = bench.client();
  bench.add(client, kRead, true, 10);
  Work held = bench.take();
  for (int i = 0; i < 2; ++i) CHECK_FALSE(bench.take().is_nothing());
  CHECK(bench.take().is_nothing());
  const auto other = bench.add(client, kRead, true, 10, kOpBytes, kOtherDisk);
  CHECK(bench.take_batch() == other);
  CHECK(bench.take().is_nothing());
  const auto copies = bench.add(client, kCopy, false, 1);
  CHECK(bench.take_batch() == copies);
  CHECK(bench.take().is_nothing());
  bench.end(held);
  CHECK(bench.take().batch != nullptr);
}

TEST_CASE("one disk has the threads that are not reserved, whatever else waits") {
  for (unsigned threads = kReservedThreads + 1; threads < 8; ++threads) {
    Bench bench(threads);
    bench.add(bench.client(), kRead, true, 10);
    for (unsigned i = kReservedThreads; i < threads; ++i) CHECK(bench.take().batch != nullptr);
    CHECK(bench.take().is_nothing());
  }
}

TEST_CASE("tasks and transfers of a disk share its threads") {
  Bench bench(4);
  const auto client = bench.client();
  bench.add_task(client, Lane::kDisk, 1, bench.storage());
  bench.add_task(client, Lane::kDisk, 2, bench.storage());
  bench.add_task(client, Lane::kDisk, 3, bench.storage());
  bench.add_task(client, Lane::kDisk, 4, bench.storage(kOtherDisk));
  bench.add_task(client, Lane::kShort, 5);
  bench.add(client, kRead, true, 1);
  Work first = bench.take();
  CHECK(first.task->ticket == 1);
  CHECK(bench.take_ticket() == 2);
  CHECK(bench.take_ticket() == 4);
  CHECK(bench.take_ticket() == 5);
  CHECK(bench.take().is_nothing());
  bench.end(first);
  CHECK(bench.take_ticket() == 3);
  CHECK(bench.take().is_nothing());
}

TEST_CASE("tasks of one storage on disk run one at a time, and hold up no other storage's") {
  Bench bench;
  const auto client = bench.client();
  const auto storage = bench.storage();
  const auto other = bench.storage();
  bench.add_task(client, Lane::kDisk, 1, storage);
  bench.add_task(client, Lane::kDisk, 2, storage);
  bench.add_task(client, Lane::kDisk, 3, other);
  Work first = bench.take();
  CHECK(first.task->ticket == 1);
  CHECK(bench.take_ticket() == 3);
  CHECK(bench.take().is_nothing());
  bench.end(first);
  Work second = bench.take();
  CHECK(second.task->ticket == 2);
  bench.end(second);
  // The line is gone with its last task, and comes back with the next.
  bench.add_task(client, Lane::kDisk, 4, storage);
  CHECK(bench.take_ticket() == 4);
}

TEST_CASE("openings do not wait for each other, but leave threads to disks that are known") {
  Bench bench(4);
  const auto client = bench.client();
  for (const std::uint32_t ticket : {1u, 2u, 3u}) bench.add_task(client, Lane::kDisk, ticket);
  CHECK(bench.take_ticket() == 1);
  CHECK(bench.take_ticket() == 2);
  CHECK(bench.take().is_nothing());
  bench.add(client, kRead, true, 1);
  CHECK(bench.take_batch() != nullptr);
}

TEST_CASE("bytes of one disk's reads in flight stop neither another disk's reads nor copies") {
  Bench bench;
  const auto client = bench.client(kOpBytes);
  bench.add(client, kRead, true, 2);
  const auto other = bench.add(client, kRead, true, 1, kOpBytes, kOtherDisk);
  const auto copy = bench.add(client, kCopy, true, 1);
  CHECK(bench.take_batch()->disk == kDisk);
  CHECK(bench.take_batch() == other);
  CHECK(bench.take_batch() == copy);
  CHECK(bench.take().is_nothing());
}

TEST_CASE("reads of one disk do not hold back another disk's writes") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kRead, true, 2);
  const auto writes = bench.add(client, kWrite, false, 2, kOpBytes, kOtherDisk);
  bench.take_batch();
  bench.take_batch();
  CHECK(bench.take_batch() == writes);
  CHECK(bench.take_batch() == writes);
}

TEST_CASE("a batch that leaves from the middle of its queue leaves the others in order") {
  Bench bench;
  const auto client = bench.client();
  std::vector<std::shared_ptr<Batch>> batches;
  for (int i = 0; i < 5; ++i) batches.push_back(bench.add(client, kCopy, true, 1));
  for (const int gone : {2, 0, 4}) CHECK(bench.schedule.drop_rest(*batches[gone]).size() == 1);
  const auto late = bench.add(client, kCopy, true, 1);
  CHECK(bench.take_batch() == batches[1]);
  CHECK(bench.take_batch() == batches[3]);
  CHECK(bench.take_batch() == late);
  CHECK(bench.take().is_nothing());
}

TEST_CASE("all that waits of a client can be found and dropped") {
  Bench bench;
  const auto client = bench.client();
  const auto other = bench.client();
  const auto mine = bench.add(client, kCopy, true, 1);
  const auto mine_too = bench.add(client, kRead, false, 2);
  Work running = bench.take();
  CHECK(running.batch == mine);
  const auto others = bench.add(other, kWrite, false, 2);
  bench.add_task(client, Lane::kLong, 1);
  bench.add_task(client, Lane::kDisk, 2, bench.storage());
  bench.add_task(other, Lane::kLong, 3);
  CHECK(bench.schedule.waiting_of(*client) == std::vector{mine_too});
  const auto dropped = bench.schedule.drop(*client);
  REQUIRE(dropped.size() == 2);
  CHECK(dropped.front()->ticket == 1);
  CHECK(dropped.back()->ticket == 2);
  CHECK(bench.schedule.waiting_of(*client).empty());
  CHECK(bench.take_ticket() == 3);
  CHECK(bench.take_batch() == others);
  // The reads are gone, so a second write may start beside the first.
  CHECK(bench.take_batch() == others);
  bench.end(running);
  CHECK(bench.take().is_nothing());
}

// An operation that waits for a GPU, and what it does when it goes on.
Work paused(Bench& bench, DeviceStep next) {
  Work work = bench.take();
  work.device = std::make_unique<DeviceOp>(work.op.count);
  work.device->step = next;
  bench.schedule.pause(work);
  return work;
}

TEST_CASE("an operation that waits for a GPU keeps its bytes and gives its thread back") {
  Bench bench(8, 1);
  const auto client = bench.client(2 * kOpBytes);
  bench.add(client, TransferPath::kMemoryToMemoryChecked, false, 3);
  Work first = paused(bench, DeviceStep::kCheck);
  Work second = paused(bench, DeviceStep::kCheck);
  // The third has a thread, but no bytes.
  CHECK(!bench.schedule.can_start());
  bench.schedule.finish(first);
  CHECK(bench.schedule.can_start());
  Work third = bench.take();
  bench.schedule.finish(third);
  bench.schedule.finish(second);
  CHECK(!bench.schedule.can_start());
}

TEST_CASE(
    "operations that go on come before new ones, those towards the GPU first, and no more at a time than may copy") {
  Bench bench(8, 1);
  const auto client = bench.client();
  const auto away = bench.add(client, TransferPath::kMemoryToMemoryChecked, false, 1);
  Work from_gpu = paused(bench, DeviceStep::kCheck);
  const auto towards = bench.add(client, TransferPath::kMemoryToMemory, true, 1);
  Work to_gpu = paused(bench, DeviceStep::kMove);
  const auto fresh = bench.add(client, TransferPath::kMemoryToMemory, true, 1);
  bench.schedule.resume(std::move(from_gpu));
  bench.schedule.resume(std::move(to_gpu));
  Work next = bench.take();
  CHECK(next.batch == towards);
  CHECK(!bench.schedule.can_start());
  bench.schedule.finish(next);
  next = bench.take();
  CHECK(next.batch == away);
  bench.schedule.finish(next);
  next = bench.take();
  CHECK(next.batch == fresh);
  bench.schedule.finish(next);
}

TEST_CASE("however many copies there may be, those of a GPU leave a thread to others") {
  Bench bench(4, 16);
  const auto client = bench.client();
  const int gpu = 0;
  bench.next_device = &gpu;
  bench.add(client, TransferPath::kMemoryToMemory, true, 5);
  Work waiting = paused(bench, DeviceStep::kMove);
  for (int i = 0; i < 3; ++i) bench.take_batch();
  // Neither a new one nor one that goes on.
  bench.schedule.resume(std::move(waiting));
  CHECK(!bench.schedule.can_start());
  bench.next_device = nullptr;
  const auto of_the_cpu = bench.add(client, TransferPath::kMemoryToMemory, true, 1);
  CHECK(bench.take_batch() == of_the_cpu);
}

TEST_CASE("an operation that goes on with its disk needs a thread of that disk") {
  // Of four threads a single disk gets two.
  Bench bench(4, 4);
  const auto client = bench.client();
  bench.add(client, TransferPath::kSlabToMemoryVia, true, 3);
  Work waiting = paused(bench, DeviceStep::kMove);
  Work second = bench.take();
  Work third = bench.take();
  bench.schedule.resume(std::move(waiting));
  CHECK(!bench.schedule.can_start());
  bench.schedule.finish(second);
  Work again = bench.take();
  CHECK(again.device != nullptr);
  bench.schedule.finish(again);
  bench.schedule.finish(third);
}

}  // namespace
}  // namespace kvtier
