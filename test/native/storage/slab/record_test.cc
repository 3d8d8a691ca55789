// A record survives encoding, and no damage, other slot or other store gets past the decoder.
#include "storage/slab/record.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "native/storage/slab/slab_rig.h"

using kvtier::BlockRecord;
using kvtier::DecodedRecord;
using kvtier::kRecordBytes;
using kvtier::RecordState;
using kvtier::TableIdentity;

namespace {

using RecordArray = std::array<std::byte, kRecordBytes>;

constexpr TableIdentity kIdentity{.store_id = 0x1122334455667788, .group = 3, .payload_bytes = 5000};

BlockRecord example() {
  BlockRecord record;
  record.hash = kvtier::slab_rig::hash_of(1);
  record.parent = kvtier::slab_rig::hash_of(2);
  record.checksum = {16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1};
  record.depth = 7;
  record.tenant_tag = 0xA1A2A3A4;
  record.priority = 0xB1B2B3B4;
  record.expires_at_s = 0xC1C2C3C4;
  record.last_use_s = 0xD1D2D3D4;
  return record;
}

RecordArray encoded() {
  RecordArray bytes;
  kvtier::encode_record(kIdentity, 41, 0x0102030405060708, example(), bytes);
  return bytes;
}

RecordState state_of(const TableIdentity& identity, std::uint32_t slot, const RecordArray& bytes) {
  DecodedRecord record;
  return kvtier::decode_record(identity, slot, bytes, record);
}

}  // namespace

TEST_CASE("a record comes back as it was written") {
  DecodedRecord record;
  REQUIRE(kvtier::decode_record(kIdentity, 41, encoded(), record) == RecordState::kGood);
  const BlockRecord original = example();
  CHECK((record.hash == original.hash));
  CHECK((record.checksum == original.checksum));
  CHECK(std::memcmp(record.parent.data(), original.parent.data(), record.parent.size()) == 0);
  CHECK(record.sequence == 0x0102030405060708);
  CHECK(record.depth == original.depth);
  CHECK(record.tenant_tag == original.tenant_tag);
  CHECK(record.priority == original.priority);
  CHECK(record.expires_at_s == original.expires_at_s);
  CHECK(record.last_use_s == original.last_use_s);
}

TEST_CASE("a record's numbers are little endian at fixed places") {
  const RecordArray bytes = encoded();
  const auto byte_at = [&bytes](std::size_t at) { return std::to_integer<int>(bytes[at]); };
  CHECK(std::memcmp(bytes.data(), "KVR1", 4) == 0);
  CHECK(byte_at(8) == 41);
  CHECK(byte_at(12) == (5000 & 255));
  CHECK(byte_at(13) == 5000 >> 8);
  CHECK(byte_at(16) == 8);
  CHECK(byte_at(23) == 1);
  CHECK(byte_at(24) == 0x88);
  CHECK(byte_at(64) == 16);
  CHECK(byte_at(96) == 3);
  CHECK(byte_at(100) == 7);
  CHECK(byte_at(119) == 0xD1);
  CHECK(byte_at(120) == 0);
}

TEST_CASE("a record with any byte changed is rejected") {
  const RecordArray good = encoded();
  for (std::size_t at = 0; at < kRecordBytes; ++at) {
    for (const unsigned change : {0x01U, 0x10U, 0x80U, 0xFFU}) {
      RecordArray bad = good;
      bad[at] ^= static_cast<std::byte>(change);
      CHECK(state_of(kIdentity, 41, bad) == RecordState::kRejected);
    }
  }
}

TEST_CASE("a record found at another slot, or in another store, group or block size, is rejected") {
  const RecordArray bytes = encoded();
  CHECK(state_of(kIdentity, 41, bytes) == RecordState::kGood);
  CHECK(state_of(kIdentity, 40, bytes) == RecordState::kRejected);
  TableIdentity other = kIdentity;
  other.store_id += 1;
  CHECK(state_of(other, 41, bytes) == RecordState::kRejected);
  other = kIdentity;
  other.group = 0;
  CHECK(state_of(other, 41, bytes) == RecordState::kRejected);
  other = kIdentity;
  other.payload_bytes = 4999;
  CHECK(state_of(other, 41, bytes) == RecordState::kRejected);
}

TEST_CASE("128 zero bytes are an empty record, and one byte more makes it a rejected one") {
  RecordArray bytes{};
  CHECK(state_of(kIdentity, 0, bytes) == RecordState::kEmpty);
  bytes[127] = std::byte{1};
  CHECK(state_of(kIdentity, 0, bytes) == RecordState::kRejected);
}
