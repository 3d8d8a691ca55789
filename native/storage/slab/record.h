// The 128 bytes of a table that describe one slot of a slab: encoding and decoding, no I/O. Record i describes slot i;
// a record counts only when its own hash is good and it names the store, the group and the slot it is found at. Any
// thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/storage.h"

namespace kvtier {

inline constexpr std::size_t kRecordBytes = 128;

using HashPrefix = std::array<std::uint8_t, 16>;

// What every record of one table must say.
struct TableIdentity {
  std::uint64_t store_id = 0;
  std::uint32_t group = 0;
  std::uint32_t payload_bytes = 0;  // of one block
};

struct DecodedRecord {
  SequenceHash hash{};
  Checksum checksum{};
  HashPrefix parent{};         // of the parent's hash; all zero for a sequence's first block
  std::uint64_t sequence = 0;  // of two records of one block, the higher is the newer
  std::uint32_t depth = 0;
  std::uint32_t tenant_tag = 0;
  std::uint32_t priority = 0;
  std::uint32_t expires_at_s = 0;
  std::uint32_t last_use_s = 0;
};

enum class RecordState : std::uint8_t {
  kEmpty,     // all zero: never written, or erased
  kRejected,  // written, but not by this store for this slot, or damaged
  kGood,
};

void encode_record(const TableIdentity& identity, std::uint32_t slot, std::uint64_t sequence, const BlockRecord& record,
                   std::span<std::byte, kRecordBytes> bytes) noexcept;

// Fills `record` when the answer is kGood.
[[nodiscard]] RecordState decode_record(const TableIdentity& identity, std::uint32_t slot,
                                        std::span<const std::byte, kRecordBytes> bytes, DecodedRecord& record) noexcept;

}  // namespace kvtier
