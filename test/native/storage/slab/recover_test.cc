// Reading a table back: every kind of record that must not count does not, and what counts comes parents first.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include "native/storage/slab/slab_rig.h"

using kvtier::SequenceHash;
using kvtier::SlabContents;
using kvtier::SlabStorage;
using namespace kvtier::slab_rig;

namespace {

constexpr std::size_t kHeader = 8192;
constexpr std::size_t kRecord = 128;

std::vector<std::uint8_t> record_at(const std::string& table, std::uint32_t slot) {
  const std::vector<std::uint8_t> bytes = read_file(table);
  const auto start = bytes.begin() + static_cast<std::ptrdiff_t>(kHeader + slot * kRecord);
  return {start, start + kRecord};
}

void put_record(const std::string& table, std::uint32_t slot, const std::vector<std::uint8_t>& record) {
  patch_file(table, kHeader + slot * kRecord, record);
}

// A store in a directory of its own, closed and opened again by reopen().
struct Store {
  explicit Store(std::uint32_t slot_count) : options(options_of(slot_count)) {
    directory = open_directory(temporary.path());
    slab = open_slab_storage(*directory, options);
  }
  void close() { slab.reset(); }
  SlabContents reopen(bool keep_orphans = false) {
    slab.reset();
    slab = open_slab_storage(*directory, options);
    return recover(*slab, keep_orphans);
  }
  [[nodiscard]] std::string table() const { return table_path(*directory); }

  TemporaryDirectory temporary;
  kvtier::SlabOptions options;
  std::unique_ptr<kvtier::StoreDirectory> directory;
  std::unique_ptr<SlabStorage> slab;
};

bool has(const SlabContents& contents, std::uint64_t number) {
  return std::ranges::find(contents.hashes, hash_of(number)) != contents.hashes.end();
}

}  // namespace

TEST_CASE("blocks come a sequence after the other, whatever slots they lie in") {
  Store store_of(40);
  // Three chains, backwards and interleaved.
  std::uint32_t slot = 0;
  for (std::uint64_t depth = 10; depth-- > 0;) {
    for (const std::uint64_t chain : {3000U, 1000U, 2000U}) {
      REQUIRE(store(*store_of.slab, slot++, {chain + depth}).is_ok());
    }
  }
  const SlabContents contents = store_of.reopen();
  REQUIRE(contents.hashes.size() == 30);
  for (std::size_t i = 0; i < 30; ++i) {
    CHECK(contents.depths[i] == i % 10);
    if (contents.depths[i] == 0) {
      CHECK(contents.parents[i] == -1);
      continue;
    }
    const auto parent = static_cast<std::size_t>(contents.parents[i]);
    CHECK(parent == i - 1);
    const auto number = [&contents](std::size_t at) {
      for (const std::uint64_t chain : {1000U, 2000U, 3000U}) {
        if (contents.hashes[at] == hash_of(chain + contents.depths[at])) return chain + contents.depths[at];
      }
      return std::uint64_t{0};
    };
    CHECK(number(i) == number(parent) + 1);
  }
}

TEST_CASE("what branches off a sequence comes after its parent, in runs") {
  Store store_of(10);
  const Payloads payloads(7);
  // 1000 <- 1001 <- 1002 <- 1003, and 2002 <- 2003 and 3002 behind 1001, too; in slots that tell nothing.
  const std::array<std::uint64_t, 7> numbers = {2003, 1003, 3002, 1001, 2002, 1000, 1002};
  std::vector<kvtier::BlockRecord> records;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    records.push_back(record_of(numbers[i], payloads.block(i)));
    if (numbers[i] == 2002 || numbers[i] == 3002) records[i].parent = hash_of(1001);
  }
  REQUIRE(store_of.slab->write_run(0, payloads.const_pointers(), records).is_ok());
  const SlabContents contents = store_of.reopen();
  std::vector<std::uint64_t> found;
  for (const std::uint32_t slot : contents.slots) found.push_back(numbers[slot]);
  CHECK(found == std::vector<std::uint64_t>{1000, 1001, 3002, 2002, 2003, 1002, 1003});
  CHECK(contents.parents == std::vector<std::int32_t>{-1, 0, 1, 1, 3, 1, 5});
}

TEST_CASE("of several records of one block the newest counts") {
  Store store_of(10);
  for (const std::uint32_t slot : {5U, 1U, 8U, 3U}) REQUIRE(store(*store_of.slab, slot, {1000}).is_ok());
  const SlabContents contents = store_of.reopen();
  REQUIRE(contents.hashes.size() == 1);
  CHECK(contents.slots[0] == 3);
  CHECK(contents.records_superseded == 3);
}

TEST_CASE("a block whose parent is gone is left out with all that follow it") {
  Store store_of(20);
  REQUIRE(store(*store_of.slab, 0, {1000, 1001, 1002, 1003, 1004}).is_ok());
  REQUIRE(store(*store_of.slab, 10, {2000, 2001}).is_ok());
  const std::uint32_t lost = 1;
  REQUIRE(store_of.slab->erase({&lost, 1}).is_ok());
  const SlabContents contents = store_of.reopen();
  CHECK(contents.hashes.size() == 3);
  CHECK(has(contents, 1000));
  CHECK(has(contents, 2001));
  CHECK(contents.records_orphaned == 3);
}

TEST_CASE("orphans are kept where they are wanted, without a parent") {
  Store store_of(20);
  REQUIRE(store(*store_of.slab, 0, {1000, 1001, 1002, 1003}).is_ok());
  const std::uint32_t lost = 1;
  REQUIRE(store_of.slab->erase({&lost, 1}).is_ok());
  const SlabContents contents = store_of.reopen(true);
  REQUIRE(contents.hashes.size() == 3);
  CHECK(contents.parents == std::vector<std::int32_t>{-1, -1, 1});
  CHECK(contents.depths == std::vector<std::uint32_t>{0, 2, 3});
  CHECK(contents.records_orphaned == 0);
}

TEST_CASE("a parent at the wrong depth is no parent") {
  Store store_of(10);
  const Payloads payloads(2);
  std::vector<kvtier::BlockRecord> records = {record_of(1000, payloads.block(0)), record_of(1001, payloads.block(1))};
  records[1].depth = 5;
  REQUIRE(store_of.slab->write_run(0, payloads.const_pointers(), records).is_ok());
  CHECK(store_of.reopen().records_orphaned == 1);
}

TEST_CASE("a record whose parent is itself, and one at the largest depth, are orphans and do no harm") {
  Store store_of(10);
  const Payloads payloads(3);
  std::vector<kvtier::BlockRecord> records;
  for (std::size_t i = 0; i < 3; ++i) records.push_back(record_of(1000, payloads.block(i)));
  records[1].hash = records[1].parent = hash_of(77);
  records[1].depth = 1;
  records[2].hash = hash_of(78);
  records[2].parent = hash_of(1000);
  records[2].depth = 0xFFFFFFFF;
  REQUIRE(store_of.slab->write_run(0, payloads.const_pointers(), records).is_ok());
  SlabContents contents = store_of.reopen();
  CHECK(contents.hashes.size() == 1);
  CHECK(contents.records_orphaned == 2);
  contents = store_of.reopen(true);
  CHECK(contents.hashes.size() == 3);
  CHECK(contents.parents == std::vector<std::int32_t>{-1, -1, -1});
}

TEST_CASE("swapped, copied and damaged records are rejected and the rest counts") {
  Store store_of(10);
  REQUIRE(store(*store_of.slab, 0, {1000, 2000, 3000, 4000, 5000}).is_ok());
  store_of.close();
  const auto first = record_at(store_of.table(), 0);
  const auto second = record_at(store_of.table(), 1);
  put_record(store_of.table(), 0, second);
  put_record(store_of.table(), 1, first);
  put_record(store_of.table(), 7, record_at(store_of.table(), 2));
  flip_byte(store_of.table(), kHeader + 3 * kRecord + 70);
  const SlabContents contents = store_of.reopen();
  CHECK(contents.hashes.size() == 2);
  CHECK(has(contents, 3000));
  CHECK(has(contents, 5000));
  CHECK(contents.records_rejected == 4);
}

TEST_CASE("records of another store's life are rejected") {
  Store old_store(10);
  REQUIRE(store(*old_store.slab, 0, {1000, 1001}).is_ok());
  old_store.close();
  Store new_store(10);
  REQUIRE(store(*new_store.slab, 5, {3000}).is_ok());
  new_store.close();
  put_record(new_store.table(), 0, record_at(old_store.table(), 0));
  put_record(new_store.table(), 1, record_at(old_store.table(), 1));
  const SlabContents contents = new_store.reopen();
  CHECK(contents.hashes.size() == 1);
  CHECK(contents.records_rejected == 2);
}

TEST_CASE("a table that was cut loses the records that were cut off, the half one included") {
  Store store_of(10);
  REQUIRE(store(*store_of.slab, 0, {1000, 1001, 1002, 1003}).is_ok());
  store_of.close();
  REQUIRE(::truncate(store_of.table().c_str(), kHeader + 2 * kRecord + 64) == 0);
  const SlabContents contents = store_of.reopen();
  CHECK(contents.hashes.size() == 2);
  CHECK(contents.records_rejected == 1);
}

TEST_CASE("a cut table that is only looked at gives the records it has") {
  Store store_of(10);
  REQUIRE(store(*store_of.slab, 0, {1000, 1001, 1002, 1003}).is_ok());
  store_of.close();
  REQUIRE(::truncate(store_of.table().c_str(), kHeader + 2 * kRecord + 64) == 0);
  const auto looked = kvtier::StoreDirectory::open_read_only(store_of.directory->path());
  REQUIRE(looked.is_ok());
  auto slab = SlabStorage::open_read_only(*looked.value(), 0);
  REQUIRE(slab.is_ok());
  CHECK(recover(*slab.value()).hashes.size() == 2);
}

TEST_CASE("a table of noise gives no blocks") {
  Store store_of(1000);
  store_of.close();
  std::mt19937 random(3);
  std::vector<std::uint8_t> noise(1000 * kRecord);
  for (std::uint8_t& byte : noise) byte = static_cast<std::uint8_t>(random());
  patch_file(store_of.table(), kHeader, noise);
  const SlabContents contents = store_of.reopen();
  CHECK(contents.hashes.empty());
  CHECK(contents.records_rejected == 1000);
}

TEST_CASE("a random history of stores and erasures is recovered exactly") {
  std::mt19937 random(99);
  constexpr std::uint32_t kSlots = 300;
  Store store_of(kSlots);
  std::map<std::uint32_t, std::uint64_t> slots;   // slot -> block
  std::map<std::uint64_t, std::uint32_t> newest;  // block -> its newest slot, which may hold another block by now
  for (int step = 0; step < 2000; ++step) {
    const auto slot = static_cast<std::uint32_t>(random() % kSlots);
    if (random() % 5 == 0) {
      REQUIRE(store_of.slab->erase({&slot, 1}).is_ok());
      slots.erase(slot);
      continue;
    }
    const std::uint64_t number = 1000 * (1 + random() % 8) + random() % 12;
    REQUIRE(store(*store_of.slab, slot, {number}).is_ok());
    slots[slot] = number;
  }
  // What a reader that knows the whole history would say. Later steps have higher sequence numbers, but a plain model
  // cannot order two slots of one block, so it only asks that one of them was chosen.
  std::map<std::uint64_t, std::vector<std::uint32_t>> held;
  for (const auto& [slot, number] : slots) held[number].push_back(slot);
  const auto whole = [&held](std::uint64_t number) {
    for (std::uint64_t at = number / 1000 * 1000; at <= number; ++at) {
      if (!held.contains(at)) return false;
    }
    return true;
  };
  const SlabContents contents = store_of.reopen();
  std::size_t expected = 0;
  std::size_t orphaned = 0;
  for (const auto& [number, places] : held) {
    expected += whole(number);
    orphaned += !whole(number);
    CHECK(has(contents, number) == whole(number));
  }
  CHECK(contents.hashes.size() == expected);
  CHECK(contents.records_orphaned == orphaned);
  CHECK(contents.records_superseded == slots.size() - held.size());
  CHECK(contents.records_rejected == 0);
  for (std::size_t i = 0; i < contents.hashes.size(); ++i) {
    const std::uint64_t number = slots.at(contents.slots[i]);
    CHECK((contents.hashes[i] == hash_of(number)));
    CHECK(load(*store_of.slab, contents.slots[i], number) == Found::kHit);
  }
}
