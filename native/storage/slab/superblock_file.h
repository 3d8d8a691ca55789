// The two superblock copies at the start of a table: which one holds, and replacing the older one. One thread at a
// time.
#pragma once

#include <cstdint>
#include <optional>

#include "core/status.h"
#include "storage/slab/record.h"
#include "storage/slab/slab_file.h"
#include "storage/slab/superblock.h"

namespace kvtier {

inline constexpr std::uint64_t kTableHeaderBytes = 2 * kSuperblockBytes;

// Where a slot's record stands.
[[nodiscard]] constexpr std::uint64_t record_offset(std::uint32_t slot) noexcept {
  return kTableHeaderBytes + std::uint64_t{slot} * kRecordBytes;
}
[[nodiscard]] constexpr std::uint64_t table_bytes(std::uint32_t slot_count) noexcept {
  return record_offset(slot_count);
}
// Whole records in a table of that size.
[[nodiscard]] std::uint32_t records_in(std::uint64_t size_bytes) noexcept;

// The newest readable copy; nullopt when both are missing or garbage. Fails: kUnsupported when a copy is of a newer
// format, kIo when none is readable and the disk failed.
[[nodiscard]] Result<std::optional<Superblock>> read_superblock(const SlabFile& table);

// Writes both copies, for a fresh store.
[[nodiscard]] Status write_first_superblock(const SlabFile& table, const Superblock& superblock);

// Writes the copy that its generation names, over the older one.
[[nodiscard]] Status write_next_superblock(const SlabFile& table, const Superblock& superblock);

}  // namespace kvtier
