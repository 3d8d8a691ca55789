// A superblock survives encoding; a damaged one is garbage and one of a newer format is known as such.
#include "storage/slab/superblock.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>

#include "digest/xxh3.h"
#include "native/storage/slab/slab_rig.h"

using kvtier::kSuperblockBytes;
using kvtier::Superblock;
using kvtier::SuperblockState;

namespace {

using SuperblockArray = std::array<std::byte, kSuperblockBytes>;

Superblock example() {
  Superblock superblock;
  superblock.store_id = 0x1122334455667788;
  superblock.generation = 9;
  superblock.compatible_features = 6;
  superblock.fingerprint = kvtier::slab_rig::fingerprint_of(5);
  superblock.group = 2;
  superblock.shape = kvtier::slab_rig::kShape;
  superblock.slot_count = 1000;
  return superblock;
}

SuperblockArray encoded() {
  SuperblockArray bytes;
  kvtier::encode_superblock(example(), bytes);
  return bytes;
}

SuperblockState state_of(const SuperblockArray& bytes) {
  Superblock superblock;
  return kvtier::decode_superblock(bytes, superblock);
}

// Changes a byte and makes the superblock's own hash good again, as another program would write it.
SuperblockState state_with(std::size_t offset, std::uint8_t value) {
  SuperblockArray bytes = encoded();
  bytes[offset] = static_cast<std::byte>(value);
  const std::uint64_t hash = kvtier::xxh3_64(bytes.data(), kSuperblockBytes - 8, 0);
  for (std::size_t i = 0; i < 8; ++i) bytes[kSuperblockBytes - 8 + i] = static_cast<std::byte>(hash >> (8 * i));
  return state_of(bytes);
}

}  // namespace

TEST_CASE("a superblock comes back as it was written") {
  Superblock superblock;
  REQUIRE(kvtier::decode_superblock(encoded(), superblock) == SuperblockState::kGood);
  const Superblock original = example();
  CHECK(superblock.store_id == original.store_id);
  CHECK(superblock.generation == original.generation);
  CHECK(superblock.compatible_features == original.compatible_features);
  CHECK((superblock.fingerprint == original.fingerprint));
  CHECK(superblock.group == original.group);
  CHECK(superblock.shape == original.shape);
  CHECK(superblock.slot_count == original.slot_count);
}

TEST_CASE("a superblock with any byte changed is garbage") {
  const SuperblockArray good = encoded();
  for (std::size_t at = 0; at < kSuperblockBytes; ++at) {
    SuperblockArray bad = good;
    bad[at] ^= std::byte{0x40};
    CHECK(state_of(bad) == SuperblockState::kGarbage);
  }
}

TEST_CASE("4 KiB of zeros are garbage") {
  CHECK(state_of(SuperblockArray{}) == SuperblockState::kGarbage);
}

TEST_CASE("an undamaged superblock of another format is newer, not garbage") {
  CHECK(state_with(8, 2) == SuperblockState::kNewer);     // version
  CHECK(state_with(12, 1) == SuperblockState::kNewer);    // endian tag
  CHECK(state_with(16, 1) == SuperblockState::kNewer);    // an incompatible feature
  CHECK(state_with(23, 128) == SuperblockState::kNewer);  // the last one
  CHECK(state_with(116, 64) == SuperblockState::kNewer);  // bytes a record
  CHECK(state_with(120, 2) == SuperblockState::kNewer);   // checksum algorithm
  CHECK(state_with(124, 1) == SuperblockState::kNewer);   // cipher
}

TEST_CASE("an unknown compatible feature is no reason to refuse") {
  CHECK(state_with(31, 128) == SuperblockState::kGood);
}

TEST_CASE("an undamaged superblock with an impossible shape is garbage") {
  CHECK(state_with(84, 0) == SuperblockState::kGarbage);     // no parts
  CHECK(state_with(92, 3) == SuperblockState::kGarbage);     // outer
  CHECK(state_with(91, 255) == SuperblockState::kGarbage);   // four billion layers
  CHECK(state_with(104, 1) == SuperblockState::kGarbage);    // a stride that is not the shape's
  CHECK(state_with(115, 255) == SuperblockState::kGarbage);  // more slots than can be numbered
}
