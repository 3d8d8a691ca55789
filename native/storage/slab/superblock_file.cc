#include "storage/slab/superblock_file.h"

#include <algorithm>
#include <array>
#include <limits>

namespace kvtier {
namespace {

constexpr std::uint32_t kCopies = 2;

Status write_copy(const SlabFile& table, const Superblock& superblock, std::uint32_t copy) {
  std::array<std::byte, kSuperblockBytes> bytes;
  encode_superblock(superblock, bytes);
  return table.write(bytes, std::uint64_t{copy} * kSuperblockBytes);
}

}  // namespace

std::uint32_t records_in(std::uint64_t size_bytes) noexcept {
  const std::uint64_t bytes = size_bytes - std::min(size_bytes, kTableHeaderBytes);
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(bytes / kRecordBytes, std::numeric_limits<std::uint32_t>::max()));
}

Result<std::optional<Superblock>> read_superblock(const SlabFile& table) {
  const auto size = table.size();
  if (!size.is_ok()) return size.status();
  std::optional<Superblock> newest;
  Status failure;
  for (std::uint32_t copy = 0; copy < kCopies; ++copy) {
    const std::uint64_t offset = std::uint64_t{copy} * kSuperblockBytes;
    if (size.value() < offset + kSuperblockBytes) break;
    std::array<std::byte, kSuperblockBytes> bytes;
    if (Status status = table.read(bytes, offset); !status.is_ok()) {
      failure = std::move(status);
      continue;
    }
    Superblock superblock;
    switch (decode_superblock(bytes, superblock)) {
      case SuperblockState::kGarbage:
        break;
      case SuperblockState::kNewer:
        return Status(Code::kUnsupported, table.path() +
                                              " was written by a newer version of kvtier; it is left as it is. "
                                              "Use that version, or delete the store's directory");
      case SuperblockState::kGood:
        if (!newest || superblock.generation > newest->generation) newest = superblock;
        break;
    }
  }
  // Without a readable copy a failing disk must not look like an empty one: a fresh store would replace what is there.
  if (!newest && !failure.is_ok()) return failure;
  return newest;
}

Status write_first_superblock(const SlabFile& table, const Superblock& superblock) {
  for (std::uint32_t copy = 0; copy < kCopies; ++copy) {
    if (Status status = write_copy(table, superblock, copy); !status.is_ok()) return status;
  }
  return Status::ok();
}

Status write_next_superblock(const SlabFile& table, const Superblock& superblock) {
  return write_copy(table, superblock, static_cast<std::uint32_t>(superblock.generation % kCopies));
}

}  // namespace kvtier
