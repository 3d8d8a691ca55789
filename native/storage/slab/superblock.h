// The 4 KiB that say what a table and its slab are: encoding and decoding, no I/O. Two copies stand at the start of the
// table and the newest readable one holds. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "layout/group_shape.h"
#include "storage/slab/store_directory.h"

namespace kvtier {

inline constexpr std::size_t kSuperblockBytes = 4096;

struct Superblock {
  std::uint64_t store_id = 0;             // random, new at every re-creation: records of an earlier life never validate
  std::uint64_t generation = 0;           // of two readable copies, the higher is the newer
  std::uint64_t compatible_features = 0;  // unknown bits are kept as they are
  Fingerprint fingerprint{};
  std::uint32_t group = 0;
  GroupShape shape;
  std::uint32_t slot_count = 0;
};

enum class SuperblockState : std::uint8_t {
  kGarbage,  // not a superblock, or damaged
  kNewer,    // undamaged, but of a format that this build does not know: its files must be left alone
  kGood,
};

void encode_superblock(const Superblock& superblock, std::span<std::byte, kSuperblockBytes> bytes) noexcept;

// Fills `superblock` when the answer is kGood.
[[nodiscard]] SuperblockState decode_superblock(std::span<const std::byte, kSuperblockBytes> bytes,
                                                Superblock& superblock) noexcept;

}  // namespace kvtier
