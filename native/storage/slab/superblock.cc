#include "storage/slab/superblock.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "digest/xxh3.h"
#include "storage/slab/little_endian.h"
#include "storage/slab/record.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kMagic = 0x31454C424154564B;  // "KVTABLE1"
constexpr std::uint32_t kFormatVersion = 1;
constexpr std::uint32_t kEndianTag = 0x01020304;
constexpr std::uint64_t kKnownIncompatibleFeatures = 0;
constexpr std::uint32_t kChecksumXxh3Leaves = 1;  // digest/payload_checksum.h
constexpr std::uint32_t kNoCipher = 0;

// Offsets. The magic, the version and the own hash keep their places in every future version; what is not named is
// zero.
constexpr std::size_t kMagicAt = 0;
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kEndianTagAt = 12;
constexpr std::size_t kIncompatibleAt = 16;
constexpr std::size_t kCompatibleAt = 24;
constexpr std::size_t kStoreIdAt = 32;
constexpr std::size_t kGenerationAt = 40;
constexpr std::size_t kFingerprintAt = 48;
constexpr std::size_t kGroupAt = 80;
constexpr std::size_t kPartsAt = 84;
constexpr std::size_t kLayersAt = 88;
constexpr std::size_t kOuterAt = 92;
constexpr std::size_t kTokensAt = 96;
constexpr std::size_t kBytesPerTokenAt = 100;
constexpr std::size_t kStrideAt = 104;
constexpr std::size_t kSlotCountAt = 112;
constexpr std::size_t kRecordBytesAt = 116;
constexpr std::size_t kChecksumAlgorithmAt = 120;
constexpr std::size_t kCipherAt = 124;
constexpr std::size_t kOwnHashAt = kSuperblockBytes - 8;

std::uint64_t own_hash_of(std::span<const std::byte, kSuperblockBytes> bytes) noexcept {
  return xxh3_64(bytes.data(), kOwnHashAt, 0);
}

// Whether an undamaged superblock asks for something that this build does not know.
bool is_newer(std::span<const std::byte, kSuperblockBytes> bytes) noexcept {
  return get_number<std::uint32_t>(bytes, kVersionAt) != kFormatVersion ||
         get_number<std::uint32_t>(bytes, kEndianTagAt) != kEndianTag ||
         (get_number<std::uint64_t>(bytes, kIncompatibleAt) & ~kKnownIncompatibleFeatures) != 0 ||
         get_number<std::uint32_t>(bytes, kRecordBytesAt) != kRecordBytes ||
         get_number<std::uint32_t>(bytes, kChecksumAlgorithmAt) != kChecksumXxh3Leaves ||
         get_number<std::uint32_t>(bytes, kCipherAt) != kNoCipher;
}

}  // namespace

void encode_superblock(const Superblock& superblock, std::span<std::byte, kSuperblockBytes> bytes) noexcept {
  std::ranges::fill(bytes, std::byte{0});
  const GroupShape& shape = superblock.shape;
  put_number<std::uint64_t>(bytes, kMagicAt, kMagic);
  put_number<std::uint32_t>(bytes, kVersionAt, kFormatVersion);
  put_number<std::uint32_t>(bytes, kEndianTagAt, kEndianTag);
  put_number<std::uint64_t>(bytes, kIncompatibleAt, kKnownIncompatibleFeatures);
  put_number<std::uint64_t>(bytes, kCompatibleAt, superblock.compatible_features);
  put_number<std::uint64_t>(bytes, kStoreIdAt, superblock.store_id);
  put_number<std::uint64_t>(bytes, kGenerationAt, superblock.generation);
  std::memcpy(bytes.data() + kFingerprintAt, superblock.fingerprint.data(), superblock.fingerprint.size());
  put_number<std::uint32_t>(bytes, kGroupAt, superblock.group);
  put_number<std::uint32_t>(bytes, kPartsAt, shape.parts);
  put_number<std::uint32_t>(bytes, kLayersAt, shape.layers);
  put_number<std::uint32_t>(bytes, kOuterAt, shape.outer);
  put_number<std::uint32_t>(bytes, kTokensAt, shape.tokens_per_block);
  put_number<std::uint32_t>(bytes, kBytesPerTokenAt, shape.bytes_per_token);
  put_number<std::uint64_t>(bytes, kStrideAt, shape.slot_stride());
  put_number<std::uint32_t>(bytes, kSlotCountAt, superblock.slot_count);
  put_number<std::uint32_t>(bytes, kRecordBytesAt, kRecordBytes);
  put_number<std::uint32_t>(bytes, kChecksumAlgorithmAt, kChecksumXxh3Leaves);
  put_number<std::uint32_t>(bytes, kCipherAt, kNoCipher);
  put_number<std::uint64_t>(bytes, kOwnHashAt, own_hash_of(bytes));
}

SuperblockState decode_superblock(std::span<const std::byte, kSuperblockBytes> bytes, Superblock& superblock) noexcept {
  if (get_number<std::uint64_t>(bytes, kMagicAt) != kMagic) return SuperblockState::kGarbage;
  if (get_number<std::uint64_t>(bytes, kOwnHashAt) != own_hash_of(bytes)) return SuperblockState::kGarbage;
  if (is_newer(bytes)) return SuperblockState::kNewer;

  GroupShape shape;
  shape.parts = get_number<std::uint32_t>(bytes, kPartsAt);
  shape.layers = get_number<std::uint32_t>(bytes, kLayersAt);
  shape.outer = get_number<std::uint32_t>(bytes, kOuterAt);
  shape.tokens_per_block = get_number<std::uint32_t>(bytes, kTokensAt);
  shape.bytes_per_token = get_number<std::uint32_t>(bytes, kBytesPerTokenAt);
  const auto slot_count = get_number<std::uint32_t>(bytes, kSlotCountAt);
  const bool possible = shape.validate().is_ok() &&
                        get_number<std::uint64_t>(bytes, kStrideAt) == shape.slot_stride() && slot_count != 0 &&
                        slot_count <= std::numeric_limits<std::int32_t>::max();
  if (!possible) return SuperblockState::kGarbage;

  superblock.shape = shape;
  superblock.slot_count = slot_count;
  superblock.store_id = get_number<std::uint64_t>(bytes, kStoreIdAt);
  superblock.generation = get_number<std::uint64_t>(bytes, kGenerationAt);
  superblock.compatible_features = get_number<std::uint64_t>(bytes, kCompatibleAt);
  std::memcpy(superblock.fingerprint.data(), bytes.data() + kFingerprintAt, superblock.fingerprint.size());
  superblock.group = get_number<std::uint32_t>(bytes, kGroupAt);
  return SuperblockState::kGood;
}

}  // namespace kvtier
