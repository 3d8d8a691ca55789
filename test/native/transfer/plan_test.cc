// What every plan must hold, on hand-made and on random batches.
#include "transfer/plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace kvtier {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

std::vector<Move> moves_from(std::initializer_list<std::uint32_t> slab_slots) {
  std::vector<Move> moves;
  for (const std::uint32_t slot : slab_slots) moves.push_back({slot, kNoSlot, slot});
  return moves;
}

std::uint32_t slab_slot(TransferPath path, const Move& move) {
  return traits_of(path).reads_disk ? move.source : move.target;
}

// Every block once, in operations that follow each other, with the right bytes and within the caps.
void check_plan(TransferPath path, std::uint64_t block_bytes, std::uint64_t stride, const std::vector<Move>& moves) {
  const Plan plan = plan_transfer(path, block_bytes, stride, moves);
  REQUIRE(plan.order.size() == moves.size());
  std::vector<std::uint32_t> sorted = plan.order;
  std::sort(sorted.begin(), sorted.end());
  for (std::uint32_t i = 0; i < sorted.size(); ++i) REQUIRE(sorted[i] == i);

  const PathTraits traits = traits_of(path);
  const bool disk = traits.reads_disk || traits.writes_disk;
  const std::uint64_t cap = disk ? kRunBytes : kCopyBytes;
  std::uint32_t next = 0;
  std::uint32_t earliest_before = 0;
  for (const PlannedOp& op : plan.ops) {
    REQUIRE(op.first == next);
    REQUIRE(op.count >= 1);
    next += op.count;
    REQUIRE(op.bytes == (disk ? stride : block_bytes) * op.count);
    REQUIRE((op.bytes <= cap || op.count == 1));
    std::uint32_t earliest = plan.order[op.first];
    for (std::uint32_t i = 1; i < op.count; ++i) {
      const std::uint32_t index = plan.order[op.first + i];
      earliest = std::min(earliest, index);
      if (!disk) REQUIRE(index == plan.order[op.first + i - 1] + 1);
      if (!disk) continue;
      REQUIRE(slab_slot(path, moves[index]) == slab_slot(path, moves[plan.order[op.first + i - 1]]) + 1);
    }
    REQUIRE((op.first == 0 || earliest > earliest_before));
    earliest_before = earliest;
  }
  REQUIRE(next == moves.size());
}

TEST_CASE("an empty batch has no operations") {
  CHECK(plan_transfer(TransferPath::kSlabToMemory, 4096, 4096, {}).ops.empty());
  CHECK(plan_transfer(TransferPath::kMemoryToMemory, 4096, 4096, {}).ops.empty());
}

TEST_CASE("consecutive slab slots become one run, up to 2 MiB") {
  std::vector<Move> moves(40);
  for (std::uint32_t i = 0; i < 40; ++i) moves[i] = {100 + i, kNoSlot, 7 * i};
  const Plan plan = plan_transfer(TransferPath::kSlabToMemoryVia, 64 * kKiB, 64 * kKiB, moves);
  REQUIRE(plan.ops.size() == 2);
  CHECK(plan.ops[0].count == 32);
  CHECK(plan.ops[0].bytes == 2 * kMiB);
  CHECK(plan.ops[1].count == 8);
}

TEST_CASE("a gap in the slab's slots ends a run") {
  const Plan plan = plan_transfer(TransferPath::kMemoryToSlab, 4096, 4096, moves_from({1, 2, 4, 5, 6, 9}));
  REQUIRE(plan.ops.size() == 3);
  CHECK(plan.ops[0].count == 2);
  CHECK(plan.ops[1].count == 3);
  CHECK(plan.ops[2].count == 1);
}

TEST_CASE("slots in any order become runs, and the run of the first block comes first") {
  const std::vector<Move> moves = moves_from({12, 3, 11, 2, 10, 1});
  const Plan plan = plan_transfer(TransferPath::kSlabToMemory, 4096, 4096, moves);
  REQUIRE(plan.ops.size() == 2);
  CHECK(plan.order == std::vector<std::uint32_t>{4, 2, 0, 5, 3, 1});
}

TEST_CASE("a slot that is read twice is read by two operations") {
  check_plan(TransferPath::kSlabToMemory, 4096, 4096, moves_from({5, 5, 6, 5, 7, 6}));
}

TEST_CASE("a block larger than the cap is an operation of its own") {
  const std::vector<Move> moves = moves_from({1, 2, 3});
  const Plan disk = plan_transfer(TransferPath::kSlabToMemory, 5 * kMiB, 5 * kMiB, moves);
  CHECK(disk.ops.size() == 3);
  CHECK(disk.ops[0].bytes == 5 * kMiB);
  const Plan memory = plan_transfer(TransferPath::kMemoryToMemory, 5 * kMiB, 5 * kMiB, moves);
  CHECK(memory.ops.size() == 3);
}

TEST_CASE("memory copies keep the caller's order and are grouped to 1 MiB of payload") {
  std::vector<Move> moves(100);
  for (std::uint32_t i = 0; i < 100; ++i) moves[i] = {99 - i, kNoSlot, i};
  const Plan plan = plan_transfer(TransferPath::kMemoryToMemoryChecked, 30 * kKiB, 32 * kKiB, moves);
  REQUIRE(plan.ops.size() == 3);
  CHECK(plan.ops[0].count == 34);
  CHECK(plan.ops[0].bytes == 34 * 30 * kKiB);
  CHECK(std::is_sorted(plan.order.begin(), plan.order.end()));
}

TEST_CASE("run_blocks is what the largest run has") {
  CHECK(run_blocks(4096) == 512);
  CHECK(run_blocks(kRunBytes) == 1);
  CHECK(run_blocks(kRunBytes + 4096) == 1);
  CHECK(run_blocks(kRunBytes - 4096) == 1);
}

TEST_CASE("random batches are covered exactly once within the caps") {
  std::mt19937 random(20240607);
  const TransferPath paths[] = {TransferPath::kMemoryToMemory,
                                TransferPath::kMemoryToMemoryChecked,
                                TransferPath::kMemoryToSlab,
                                TransferPath::kSlabToMemory,
                                TransferPath::kSlabToMemoryVia,
                                TransferPath::kSlabCheck,
                                TransferPath::kSeal};
  for (int round = 0; round < 2000; ++round) {
    const TransferPath path = paths[random() % std::size(paths)];
    const std::uint64_t stride = 4096 * (1 + random() % (random() % 4 == 0 ? 1024 : 32));
    const std::uint64_t block_bytes = stride - random() % 4096;
    std::vector<std::uint32_t> slots(1 + random() % 200);
    const std::uint32_t start = static_cast<std::uint32_t>(random() % 1000);
    std::iota(slots.begin(), slots.end(), start);
    for (std::uint32_t i = 0; i < random() % 8; ++i)
      std::swap(slots[random() % slots.size()], slots[random() % slots.size()]);
    if (random() % 4 == 0) std::shuffle(slots.begin(), slots.end(), random);
    if (random() % 4 == 0) std::reverse(slots.begin(), slots.end());
    slots.resize(random() % (slots.size() + 1));
    std::vector<Move> moves;
    for (const std::uint32_t slot : slots) moves.push_back({slot, kNoSlot, slot});
    CAPTURE(round);
    check_plan(path, block_bytes, stride, moves);
  }
}

}  // namespace
}  // namespace kvtier
