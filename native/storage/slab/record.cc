#include "storage/slab/record.h"

#include <algorithm>
#include <cstring>

#include "digest/xxh3.h"
#include "storage/slab/little_endian.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kMagic = 0x3152564B;  // "KVR1"
constexpr std::uint16_t kLive = 1;            // the only flag so far; a record with another one is not ours to read

// Offsets. Bytes 120 to 123 are reserved and zero.
constexpr std::size_t kMagicAt = 0;
constexpr std::size_t kFlagsAt = 4;
constexpr std::size_t kPartAt = 6;  // always 0: a slot holds all parts
constexpr std::size_t kSlotAt = 8;
constexpr std::size_t kPayloadBytesAt = 12;
constexpr std::size_t kSequenceAt = 16;
constexpr std::size_t kStoreIdAt = 24;
constexpr std::size_t kHashAt = 32;
constexpr std::size_t kChecksumAt = 64;
constexpr std::size_t kParentAt = 80;
constexpr std::size_t kGroupAt = 96;
constexpr std::size_t kDepthAt = 100;
constexpr std::size_t kTenantTagAt = 104;
constexpr std::size_t kPriorityAt = 108;
constexpr std::size_t kExpiresAt = 112;
constexpr std::size_t kLastUseAt = 116;
constexpr std::size_t kOwnHashAt = 124;

std::uint32_t own_hash_of(std::span<const std::byte, kRecordBytes> bytes) noexcept {
  return static_cast<std::uint32_t>(xxh3_64(bytes.data(), kOwnHashAt, 0));
}

bool is_empty(std::span<const std::byte, kRecordBytes> bytes) noexcept {
  static constexpr std::array<std::byte, kRecordBytes> kZero{};
  return std::memcmp(bytes.data(), kZero.data(), kRecordBytes) == 0;
}

}  // namespace

void encode_record(const TableIdentity& identity, std::uint32_t slot, std::uint64_t sequence, const BlockRecord& record,
                   std::span<std::byte, kRecordBytes> bytes) noexcept {
  std::ranges::fill(bytes, std::byte{0});
  put_number<std::uint32_t>(bytes, kMagicAt, kMagic);
  put_number<std::uint16_t>(bytes, kFlagsAt, kLive);
  put_number<std::uint16_t>(bytes, kPartAt, 0);
  put_number<std::uint32_t>(bytes, kSlotAt, slot);
  put_number<std::uint32_t>(bytes, kPayloadBytesAt, identity.payload_bytes);
  put_number<std::uint64_t>(bytes, kSequenceAt, sequence);
  put_number<std::uint64_t>(bytes, kStoreIdAt, identity.store_id);
  std::memcpy(bytes.data() + kHashAt, record.hash.data(), record.hash.size());
  std::memcpy(bytes.data() + kChecksumAt, record.checksum.data(), record.checksum.size());
  std::memcpy(bytes.data() + kParentAt, record.parent.data(), sizeof(HashPrefix));
  put_number<std::uint32_t>(bytes, kGroupAt, identity.group);
  put_number<std::uint32_t>(bytes, kDepthAt, record.depth);
  put_number<std::uint32_t>(bytes, kTenantTagAt, record.tenant_tag);
  put_number<std::uint32_t>(bytes, kPriorityAt, record.priority);
  put_number<std::uint32_t>(bytes, kExpiresAt, record.expires_at_s);
  put_number<std::uint32_t>(bytes, kLastUseAt, record.last_use_s);
  put_number<std::uint32_t>(bytes, kOwnHashAt, own_hash_of(bytes));
}

RecordState decode_record(const TableIdentity& identity, std::uint32_t slot,
                          std::span<const std::byte, kRecordBytes> bytes, DecodedRecord& record) noexcept {
  if (get_number<std::uint32_t>(bytes, kMagicAt) != kMagic) {
    return is_empty(bytes) ? RecordState::kEmpty : RecordState::kRejected;
  }
  const bool fits = get_number<std::uint16_t>(bytes, kFlagsAt) == kLive &&
                    get_number<std::uint16_t>(bytes, kPartAt) == 0 &&
                    get_number<std::uint32_t>(bytes, kSlotAt) == slot &&
                    get_number<std::uint32_t>(bytes, kPayloadBytesAt) == identity.payload_bytes &&
                    get_number<std::uint64_t>(bytes, kStoreIdAt) == identity.store_id &&
                    get_number<std::uint32_t>(bytes, kGroupAt) == identity.group &&
                    get_number<std::uint32_t>(bytes, kOwnHashAt) == own_hash_of(bytes);
  if (!fits) return RecordState::kRejected;
  std::memcpy(record.hash.data(), bytes.data() + kHashAt, record.hash.size());
  std::memcpy(record.checksum.data(), bytes.data() + kChecksumAt, record.checksum.size());
  std::memcpy(record.parent.data(), bytes.data() + kParentAt, record.parent.size());
  record.sequence = get_number<std::uint64_t>(bytes, kSequenceAt);
  record.depth = get_number<std::uint32_t>(bytes, kDepthAt);
  record.tenant_tag = get_number<std::uint32_t>(bytes, kTenantTagAt);
  record.priority = get_number<std::uint32_t>(bytes, kPriorityAt);
  record.expires_at_s = get_number<std::uint32_t>(bytes, kExpiresAt);
  record.last_use_s = get_number<std::uint32_t>(bytes, kLastUseAt);
  return RecordState::kGood;
}

}  // namespace kvtier
