// Slabs that are only looked at: what they tell, what they refuse, and what they may cost.
#include <doctest/doctest.h>

#include <array>

#include "native/storage/resident_bytes.h"
#include "native/storage/slab/slab_rig.h"
#include "storage/slab/superblock.h"

using kvtier::Code;
using kvtier::resident_bytes;
using kvtier::SlabStorage;
using kvtier::StoreDirectory;
using namespace kvtier::slab_rig;

TEST_CASE("looking only reads shape, slots and blocks while the store is in use, and changes nothing") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 4, {1000, 1001}).is_ok());
  const std::vector<std::uint8_t> table = read_file(table_path(*directory));

  const auto looked = StoreDirectory::open_read_only(directory->path());
  REQUIRE(looked.is_ok());
  CHECK(SlabStorage::open_read_only(*looked.value(), 1).status().code() == Code::kNotAStore);
  auto copy = SlabStorage::open_read_only(*looked.value(), 0);
  REQUIRE(copy.is_ok());
  CHECK(copy.value()->info().slot_count == 10);
  CHECK(copy.value()->info().shape == kShape);
  CHECK(recover(*copy.value()).hashes.size() == 2);
  CHECK(load(*copy.value(), 5, 1001) == Found::kHit);
  CHECK(store(*copy.value(), 0, {3000}).code() == Code::kNotWritable);
  const std::uint32_t slot = 4;
  CHECK(copy.value()->erase({&slot, 1}).code() == Code::kNotWritable);
  CHECK(copy.value()->sync().code() == Code::kNotWritable);
  CHECK(SlabStorage::open(*looked.value(), options_of(10)).status().code() == Code::kNotWritable);
  CHECK((read_file(table_path(*directory)) == table));
  CHECK(load(*slab, 4, 1000) == Found::kHit);
}

TEST_CASE("a table that claims more slots than it has records is looked at with those it has") {
  const TemporaryDirectory temporary;
  kvtier::Superblock superblock;
  superblock.shape = kShape;
  superblock.slot_count = 1U << 25;
  std::vector<std::uint8_t> table(8192 + 3 * 128 + 127);
  for (const std::size_t copy : {0U, 4096U}) {
    kvtier::encode_superblock(
        superblock, std::span<std::byte, 4096>(reinterpret_cast<std::byte*>(table.data()) + copy, std::size_t{4096}));
  }
  const std::string path = temporary.path() + "/group-0.table";
  const auto write = [&](std::size_t size) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(table.data()), static_cast<std::streamsize>(size));
  };
  std::ofstream(temporary.path() + "/group-0.slab") << "x";
  write(table.size());
  const auto looked = StoreDirectory::open_read_only(temporary.path());
  REQUIRE(looked.is_ok());
  auto slab = SlabStorage::open_read_only(*looked.value(), 0);
  REQUIRE(slab.is_ok());
  CHECK(slab.value()->info().slot_count == 3);
  CHECK(slab.value()->named_slots() == 1U << 25);
  CHECK(recover(*slab.value()).hashes.empty());

  // Without any record there is nothing to find, and still a slot.
  write(8192);
  slab = SlabStorage::open_read_only(*looked.value(), 0);
  REQUIRE(slab.is_ok());
  CHECK(slab.value()->info().slot_count == 1);
  CHECK(recover(*slab.value()).hashes.empty());
}

TEST_CASE("opening takes memory for the blocks that a table holds, not for the slots that it names") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  open_slab_storage(*directory, options_of(10)).reset();
  constexpr std::uint32_t kNamed = 1U << 22;
  kvtier::Superblock superblock;
  superblock.generation = 9;
  superblock.fingerprint = directory->fingerprint();
  superblock.shape = kShape;
  superblock.slot_count = kNamed;
  std::array<std::byte, 4096> bytes;
  kvtier::encode_superblock(superblock, bytes);
  patch_file(table_path(*directory), 0, {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  // Long and empty: it costs nothing to make.
  REQUIRE(::truncate(table_path(*directory).c_str(), 8192 + std::int64_t{kNamed} * 128) == 0);

  const auto looked = StoreDirectory::open_read_only(directory->path());
  REQUIRE(looked.is_ok());
  const std::uint64_t before = resident_bytes();
  auto slab = SlabStorage::open_read_only(*looked.value(), 0);
  REQUIRE(slab.is_ok());
  CHECK(slab.value()->info().slot_count == kNamed);
  CHECK(recover(*slab.value()).hashes.empty());
  CHECK(resident_bytes() < before + (std::uint64_t{16} << 20));
}
