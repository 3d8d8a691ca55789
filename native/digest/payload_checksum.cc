#include "digest/payload_checksum.h"

#include <algorithm>
#include <bit>

#include "core/check.h"

namespace kvtier {

static_assert(std::endian::native == std::endian::little, "leaf hashes are fed as they lie in memory");

namespace {

Checksum to_checksum(const Hash128& hash) noexcept {
  Checksum checksum;
  for (std::size_t i = 0; i < 8; ++i) {
    checksum[i] = static_cast<std::uint8_t>(hash.low >> (8 * i));
    checksum[8 + i] = static_cast<std::uint8_t>(hash.high >> (8 * i));
  }
  return checksum;
}

}  // namespace

PayloadChecksum::PayloadChecksum(std::uint64_t seed, std::uint64_t part_bytes) noexcept : part_bytes_(part_bytes) {
  KVTIER_CHECK(part_bytes > 0);
  reset(seed);
}

void PayloadChecksum::reset(std::uint64_t seed) noexcept {
  part_left_ = part_bytes_;
  leaf_left_ = std::min<std::uint64_t>(kLeafBytes, part_left_);
  leaf_.reset(seed);
  root_.reset(seed);
}

void PayloadChecksum::update(const std::byte* data, std::size_t length) noexcept {
  while (length > 0) {
    const std::size_t taken = static_cast<std::size_t>(std::min<std::uint64_t>(length, leaf_left_));
    leaf_.update(data, taken);
    data += taken;
    length -= taken;
    leaf_left_ -= taken;
    if (leaf_left_ == 0) close_leaf();
  }
}

void PayloadChecksum::close_leaf() noexcept {
  const std::uint64_t digest = leaf_.digest();
  root_.update(&digest, sizeof digest);
  leaf_.restart();
  part_left_ -= std::min<std::uint64_t>(kLeafBytes, part_left_);
  if (part_left_ == 0) part_left_ = part_bytes_;
  leaf_left_ = std::min<std::uint64_t>(kLeafBytes, part_left_);
}

Checksum PayloadChecksum::finish() noexcept {
  // Anything else means that bytes are missing.
  KVTIER_CHECK(part_left_ == part_bytes_ && leaf_left_ == std::min<std::uint64_t>(kLeafBytes, part_bytes_));
  return to_checksum(root_.digest());
}

Checksum payload_checksum(std::span<const std::byte> payload, std::uint64_t part_bytes, std::uint64_t seed) noexcept {
  PayloadChecksum checksum(seed, part_bytes);
  checksum.update(payload.data(), payload.size());
  return checksum.finish();
}

Checksum checksum_of_leaves(std::span<const std::uint64_t> leaf_hashes, std::uint64_t seed) noexcept {
  return to_checksum(xxh3_128(leaf_hashes.data(), leaf_hashes.size_bytes(), seed));
}

}  // namespace kvtier
