// The order of work, without threads.
#include "transfer/schedule.h"

#include <doctest/doctest.h>

#include "native/transfer/fakes.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kOpBytes = 1000;

struct Bench {
  explicit Bench(unsigned threads = 4, unsigned copies = 4) : schedule(threads, copies) {}

  std::shared_ptr<ClientState> client(std::uint64_t bytes = 1 << 30) {
    auto state = std::make_shared<ClientState>();
    state->limits = {.bytes_in_flight = {bytes, bytes}, .queue_blocks = 1 << 20};
    return state;
  }

  std::shared_ptr<Batch> add(const std::shared_ptr<ClientState>& client, TransferPath path, bool onboard,
                             std::uint32_t ops, std::uint64_t op_bytes = kOpBytes) {
    auto batch = std::make_shared<Batch>();
    batch->client = client;
    batch->request.path = path;
    batch->request.onboard = onboard;
    batch->traits = traits_of(path);
    batch->direction = batch->traits.reads_disk || onboard ? Direction::kRead : Direction::kWrite;
    for (std::uint32_t i = 0; i < ops; ++i) {
      batch->plan.order.push_back(i);
      batch->plan.ops.push_back({i, 1, op_bytes});
    }
    schedule.add(batch);
    return batch;
  }

  void add_task(const std::shared_ptr<ClientState>& client, Lane lane, std::uint32_t ticket) {
    auto task = std::make_unique<Task>();
    task->client = client;
    task->lane = lane;
    task->ticket = ticket;
    schedule.add(std::move(task));
  }

  void end(Work& work) {
    schedule.finish(work);
    if (work.batch) --work.batch->running_ops;
    work = Work();
  }

  Schedule schedule;
};

constexpr TransferPath kRead = TransferPath::kSlabToMemoryVia;
constexpr TransferPath kWrite = TransferPath::kMemoryToSlab;
constexpr TransferPath kCopy = TransferPath::kMemoryToMemory;

TEST_CASE("onboarding starts before offloading that was submitted earlier") {
  Bench bench;
  const auto client = bench.client();
  const auto offload = bench.add(client, kCopy, false, 1);
  const auto onboard = bench.add(client, kCopy, true, 2);
  CHECK(bench.schedule.take().batch == onboard);
  CHECK(bench.schedule.take().batch == onboard);
  CHECK(bench.schedule.take().batch == offload);
  CHECK(bench.schedule.take().is_nothing());
  CHECK_FALSE(bench.schedule.has_waiting());
}

TEST_CASE("within a class batches start in the order of submission") {
  Bench bench;
  const auto client = bench.client();
  const auto first = bench.add(client, kRead, true, 2);
  const auto second = bench.add(client, kRead, true, 1);
  CHECK(bench.schedule.take().batch == first);
  CHECK(bench.schedule.take().batch == first);
  CHECK(bench.schedule.take().batch == second);
}

TEST_CASE("bytes in flight are bounded for each direction, and an end makes room") {
  Bench bench;
  const auto client = bench.client(2 * kOpBytes);
  bench.add(client, kRead, true, 4);
  const auto copies = bench.add(client, kCopy, false, 1);
  Work a = bench.schedule.take();
  Work b = bench.schedule.take();
  CHECK(a.batch->request.onboard);
  CHECK(b.batch->request.onboard);
  CHECK(bench.schedule.take().batch == copies);
  CHECK(bench.schedule.take().is_nothing());
  bench.end(a);
  CHECK_FALSE(bench.schedule.take().is_nothing());
  CHECK(bench.schedule.take().is_nothing());
}

TEST_CASE("an operation larger than the bound runs alone") {
  Bench bench;
  const auto client = bench.client(100);
  bench.add(client, kRead, true, 2, 1000);
  Work only = bench.schedule.take();
  CHECK_FALSE(only.is_nothing());
  CHECK(bench.schedule.take().is_nothing());
  bench.end(only);
  CHECK_FALSE(bench.schedule.take().is_nothing());
}

TEST_CASE("small operations do not pass a large one that waits for bytes") {
  Bench bench;
  const auto client = bench.client(1000);
  bench.add(client, kRead, true, 1, 100);
  const auto large = bench.add(client, kRead, true, 1, 1000);
  bench.add(client, kRead, true, 1, 100);
  Work first = bench.schedule.take();
  CHECK(bench.schedule.take().is_nothing());
  bench.end(first);
  CHECK(bench.schedule.take().batch == large);
}

TEST_CASE("one client's full budget does not stop another client") {
  Bench bench;
  const auto full = bench.client(kOpBytes);
  const auto other = bench.client(kOpBytes);
  bench.add(full, kRead, true, 2);
  const auto batch = bench.add(other, kRead, true, 1);
  CHECK(bench.schedule.take().batch->client == full);
  CHECK(bench.schedule.take().batch == batch);
}

TEST_CASE("one disk write is in flight while reads wait or run, more when there are none") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kWrite, false, 4);
  Work write = bench.schedule.take();
  bench.add(client, kRead, true, 1);
  Work read = bench.schedule.take();
  CHECK(read.batch->traits.reads_disk);
  CHECK(bench.schedule.take().is_nothing());
  bench.end(write);
  Work next = bench.schedule.take();
  CHECK(next.batch->traits.writes_disk);
  CHECK(bench.schedule.take().is_nothing());
  bench.end(read);
  CHECK(bench.schedule.take().batch->traits.writes_disk);
  CHECK(bench.schedule.take().batch->traits.writes_disk);
}

TEST_CASE("memory copies pass a disk write that waits for reads") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kWrite, false, 2);
  const auto copies = bench.add(client, kCopy, false, 1);
  bench.add(client, kRead, true, 1);
  CHECK(bench.schedule.take().batch->traits.reads_disk);
  CHECK(bench.schedule.take().batch->traits.writes_disk);
  CHECK(bench.schedule.take().batch == copies);
  CHECK(bench.schedule.take().is_nothing());
}

TEST_CASE("reads that were dropped do not hold writes back") {
  Bench bench;
  const auto client = bench.client();
  bench.add(client, kWrite, false, 2);
  Work write = bench.schedule.take();
  const auto reads = bench.add(client, kRead, true, 3);
  CHECK(bench.schedule.drop_rest(*reads).size() == 3);
  CHECK(bench.schedule.take().batch->traits.writes_disk);
}

TEST_CASE("a batch whose rest was dropped starts nothing more") {
  Bench bench;
  const auto client = bench.client();
  const auto batch = bench.add(client, kCopy, true, 3);
  Work first = bench.schedule.take();
  const auto rest = bench.schedule.drop_rest(*batch);
  REQUIRE(rest.size() == 2);
  CHECK(rest[0].first == 1);
  CHECK(bench.schedule.take().is_nothing());
  CHECK(bench.schedule.drop_rest(*batch).empty());
  CHECK_FALSE(bench.schedule.has_waiting());
}

TEST_CASE("memory operations leave threads to others when their number is reached") {
  Bench bench(4, 1);
  const auto client = bench.client();
  const auto copies = bench.add(client, kCopy, true, 2);
  const auto reads = bench.add(client, kRead, true, 2);
  Work copy = bench.schedule.take();
  CHECK(copy.batch == copies);
  CHECK(bench.schedule.take().batch == reads);
  CHECK(bench.schedule.take().batch == reads);
  CHECK(bench.schedule.take().is_nothing());
  bench.end(copy);
  CHECK(bench.schedule.take().batch == copies);
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
  Work first = bench.schedule.take();
  CHECK(first.task->ticket == 1);
  CHECK(bench.schedule.take().task->ticket == 3);
  CHECK(bench.schedule.take().task->ticket == 4);
  CHECK(bench.schedule.take().batch != nullptr);
  CHECK(bench.schedule.take().is_nothing());
  bench.end(first);
  CHECK(bench.schedule.take().task->ticket == 2);
}

TEST_CASE("long tasks leave a thread to transfers and short tasks") {
  Bench bench(2);
  const auto first = bench.client();
  const auto second = bench.client();
  bench.add_task(first, Lane::kLong, 1);
  bench.add_task(second, Lane::kLong, 2);
  bench.add(second, kCopy, false, 1);
  Work running = bench.schedule.take();
  CHECK(running.task->ticket == 1);
  CHECK(bench.schedule.take().batch != nullptr);
  CHECK(bench.schedule.take().is_nothing());
  bench.end(running);
  CHECK(bench.schedule.take().task->ticket == 2);
}

TEST_CASE("a single thread runs long tasks too") {
  Bench bench(1);
  bench.add_task(bench.client(), Lane::kLong, 1);
  CHECK(bench.schedule.take().task->ticket == 1);
}

TEST_CASE("a client's waiting work can be found and dropped") {
  Bench bench;
  const auto client = bench.client();
  const auto other = bench.client();
  const auto mine = bench.add(client, kCopy, true, 1);
  const auto mine_too = bench.add(client, kCopy, false, 1);
  bench.add(other, kCopy, true, 1);
  bench.add_task(client, Lane::kLong, 1);
  bench.add_task(other, Lane::kLong, 2);
  CHECK(bench.schedule.waiting_of(*client) == std::vector{mine, mine_too});
  const auto dropped = bench.schedule.drop_tasks(*client);
  REQUIRE(dropped.size() == 1);
  CHECK(dropped[0]->ticket == 1);
  CHECK(bench.schedule.take().task->ticket == 2);
}

}  // namespace
}  // namespace kvtier
