// Runs of slots: written, read, erased, numbered and refused.
#include "storage/slab/slab_storage.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "native/storage/slab/slab_rig.h"

using kvtier::BlockRecord;
using kvtier::Checksum;
using kvtier::Code;
using kvtier::SlabContents;
using kvtier::SlabStorage;
using namespace kvtier::slab_rig;

namespace {

std::vector<std::uint64_t> firsts(std::size_t count, std::uint64_t from) {
  std::vector<std::uint64_t> numbers;
  for (std::size_t i = 0; i < count; ++i) numbers.push_back((from + i) * 1000);
  return numbers;
}

}  // namespace

TEST_CASE("a run of any length comes back, buffered and direct, from joined and from scattered buffers") {
  for (const bool direct : {false, true}) {
    const TemporaryDirectory temporary;
    const auto directory = open_directory(temporary.path());
    const auto slab = open_slab_storage(*directory, options_of(2000, direct));
    // Longer than one call's parts and than the records that are encoded at a time.
    const std::size_t count = 1500;
    const Payloads payloads(2 * count);
    std::vector<const std::byte*> scattered;
    std::vector<BlockRecord> records;
    for (std::size_t i = 0; i < count; ++i) {
      fill_payload(payloads.at(2 * i), i * 1000);
      scattered.push_back(payloads.at(2 * i));
      records.push_back(record_of(i * 1000, payloads.block(2 * i)));
    }
    REQUIRE(slab->write_run(300, scattered, records).is_ok());

    const Payloads joined(count);
    const std::vector<std::byte*> targets = joined.pointers();
    REQUIRE(slab->read_run(300, targets).is_ok());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
      wrong += std::memcmp(joined.at(i), scattered[i], kStride) != 0;
      wrong += slab->checksum_at(300 + static_cast<std::uint32_t>(i)) != records[i].checksum;
    }
    CHECK(wrong == 0);
    const Payloads apart(2 * count);
    std::vector<std::byte*> apart_targets;
    for (std::size_t i = count; i-- > 0;) apart_targets.push_back(apart.at(2 * i));
    REQUIRE(slab->read_run(300, apart_targets).is_ok());
    for (std::size_t i = 0; i < count; ++i) wrong += std::memcmp(apart_targets[i], scattered[i], kStride) != 0;
    CHECK(wrong == 0);
    CHECK(recover(*slab).hashes.size() == count);
  }
}

TEST_CASE("the first and the last slot can be used, and a run beyond the last is refused") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(10));
  CHECK(store(*slab, 0, {1000}).is_ok());
  CHECK(store(*slab, 9, {2000}).is_ok());
  CHECK(load(*slab, 0, 1000) == Found::kHit);
  CHECK(load(*slab, 9, 2000) == Found::kHit);
  CHECK(store(*slab, 9, {2000, 2001}).code() == Code::kSlotOutOfRange);
  CHECK(store(*slab, 10, {2000}).code() == Code::kSlotOutOfRange);
  CHECK(store(*slab, 0xFFFFFFFF, {2000}).code() == Code::kSlotOutOfRange);
  const Payloads payloads(2);
  const std::vector<std::byte*> targets = payloads.pointers();
  CHECK(slab->read_run(9, targets).code() == Code::kSlotOutOfRange);
  const std::uint32_t slots[] = {0, 10};
  CHECK(slab->erase(slots).code() == Code::kSlotOutOfRange);
  CHECK(recover(*slab).hashes.size() == 2);
  CHECK(slab->write_run(10, {}, {}).is_ok());
}

TEST_CASE("a slot that is written again holds the new block only") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 3, {1000}).is_ok());
  REQUIRE(store(*slab, 3, {2000}).is_ok());
  CHECK(load(*slab, 3, 1000) == Found::kMiss);
  CHECK(load(*slab, 3, 2000) == Found::kHit);
  slab.reset();
  slab = open_slab_storage(*directory, options_of(10));
  const SlabContents contents = recover(*slab);
  REQUIRE(contents.hashes.size() == 1);
  CHECK((contents.hashes[0] == hash_of(2000)));
}

TEST_CASE("erased slots are not found again, and the others are") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(300));
  REQUIRE(store(*slab, 0, firsts(300, 1)).is_ok());
  // Neighbours in order, in reverse, alone, and more than one write holds.
  std::vector<std::uint32_t> slots = {7, 8, 9, 20, 19, 18, 299, 0};
  for (std::uint32_t slot = 100; slot < 290; ++slot) slots.push_back(slot);
  REQUIRE(slab->erase(slots).is_ok());
  slab.reset();
  slab = open_slab_storage(*directory, options_of(300));
  const SlabContents contents = recover(*slab);
  CHECK(contents.hashes.size() == 300 - slots.size());
  CHECK(contents.records_rejected == 0);
  for (const std::uint32_t slot : contents.slots) CHECK(std::ranges::find(slots, slot) == slots.end());
}

TEST_CASE("a record written after a recovery is newer than all before it") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  for (int round = 0; round < 5; ++round) REQUIRE(store(*slab, 8, {1000}).is_ok());
  slab.reset();
  slab = open_slab_storage(*directory, options_of(10));
  CHECK(recover(*slab).next_sequence == 6);
  // The same block in a slot before the old one: only the sequence number says which is newer.
  REQUIRE(store(*slab, 2, {1000}).is_ok());
  slab.reset();
  slab = open_slab_storage(*directory, options_of(10));
  const SlabContents contents = recover(*slab);
  REQUIRE(contents.slots.size() == 1);
  CHECK(contents.slots[0] == 2);
  CHECK(contents.records_superseded == 1);
  CHECK(contents.next_sequence == 7);
}

TEST_CASE("a payload that changed on the disk is a miss, and its neighbours are hits") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 0, {1000, 1001, 1002}).is_ok());
  slab.reset();
  flip_byte(slab_path(*directory), kStride + 4999);
  slab = open_slab_storage(*directory, options_of(10));
  CHECK(recover(*slab).hashes.size() == 3);
  CHECK(load(*slab, 0, 1000) == Found::kHit);
  CHECK(load(*slab, 1, 1001) == Found::kMiss);
  CHECK(load(*slab, 2, 1002) == Found::kHit);
}

TEST_CASE("another block's slot is a miss even with that slot's own checksum") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 0, {1000, 1001}).is_ok());
  CHECK(load(*slab, 1, 1000) == Found::kMiss);
}

TEST_CASE("runs of different slots are written and read by several threads at once") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(400));
  std::vector<std::thread> threads;
  std::vector<int> failures(4);
  for (std::uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&slab, &failures, thread] {
      for (std::uint32_t run = 0; run < 10; ++run) {
        const std::uint32_t first = thread * 100 + run * 10;
        failures[thread] += !store(*slab, first, firsts(10, first + 1)).is_ok();
        for (std::uint32_t i = 0; i < 10; ++i) {
          failures[thread] += load(*slab, first + i, (first + i + 1) * std::uint64_t{1000}) != Found::kHit;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int failed : failures) CHECK(failed == 0);
  CHECK(slab->sync().is_ok());
  const SlabContents contents = recover(*slab);
  CHECK(contents.hashes.size() == 400);
  CHECK(contents.next_sequence == 401);
}
