#include "record_table.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <vector>

#include "digest/xxh3.h"
#include "platform/file_descriptor.h"
#include "storage/slab/record.h"
#include "storage/slab/slab_storage.h"
#include "storage/slab/superblock_file.h"

namespace limits {
namespace {

using kvtier::Result;
using kvtier::SequenceHash;
using kvtier::Status;

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
constexpr std::uint32_t kLastUseS = 1'700'000'000;

// A hash for each number, as evenly spread as SHA-256's.
SequenceHash hash_of(std::uint64_t number) noexcept {
  SequenceHash hash{};
  const kvtier::Hash128 low = kvtier::xxh3_128(&number, sizeof number, 1);
  const kvtier::Hash128 high = kvtier::xxh3_128(&number, sizeof number, 2);
  std::copy_n(reinterpret_cast<const std::uint8_t*>(&low), 16, hash.begin());
  std::copy_n(reinterpret_cast<const std::uint8_t*>(&high), 16, hash.begin() + 16);
  return hash;
}

std::vector<std::uint32_t> slots_in_order(std::uint32_t count, bool scattered) {
  std::vector<std::uint32_t> slots(count);
  std::iota(slots.begin(), slots.end(), 0u);
  if (!scattered) return slots;
  for (std::uint32_t i = count; i > 1; --i) {
    const std::uint64_t number = i;
    std::swap(slots[i - 1], slots[kvtier::xxh3_64(&number, sizeof number, 3) % i]);
  }
  return slots;
}

Status write_all(int fd, const std::byte* bytes, std::size_t size, std::uint64_t offset) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t moved = ::pwrite(fd, bytes + done, size - done, static_cast<off_t>(offset + done));
    if (moved <= 0) return Status::from_errno(moved < 0 ? errno : EIO, "writing records");
    done += static_cast<std::size_t>(moved);
  }
  return Status::ok();
}

}  // namespace

Status fill_record_table(const std::string& store_path, std::uint32_t chain_blocks, bool scattered) {
  auto directory = kvtier::StoreDirectory::open_read_only(store_path);
  if (!directory.is_ok()) return directory.status();
  auto slab = kvtier::SlabStorage::open_read_only(*directory.value(), 0);
  if (!slab.is_ok()) return slab.status();
  const kvtier::StorageInfo& info = slab.value()->info();
  const kvtier::TableIdentity identity{.store_id = slab.value()->store_id(),
                                       .group = 0,
                                       .payload_bytes = static_cast<std::uint32_t>(info.shape.block_bytes())};

  const std::vector<std::uint32_t> slots = slots_in_order(info.slot_count, scattered);
  std::vector<std::byte> table(std::size_t{info.slot_count} * kvtier::kRecordBytes);
  for (std::uint32_t i = 0; i < info.slot_count; ++i) {
    kvtier::BlockRecord record;
    record.hash = hash_of(i);
    record.depth = i % chain_blocks;
    if (record.depth != 0) record.parent = hash_of(i - 1);
    record.priority = 50;
    record.last_use_s = kLastUseS + i / chain_blocks;
    const std::span<std::byte, kvtier::kRecordBytes> bytes(table.data() + std::size_t{slots[i]} * kvtier::kRecordBytes,
                                                           kvtier::kRecordBytes);
    kvtier::encode_record(identity, slots[i], i + 1, record, bytes);
  }
  const std::string path = store_path + "/group-0.table";
  const kvtier::FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return Status::from_errno(errno, "opening " + path);
  return write_all(file.get(), table.data(), table.size(), kvtier::record_offset(0));
}

Result<Elapsed> read_record_table(const std::string& path, std::uint64_t& records) {
  const kvtier::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return Status::from_errno(errno, "opening " + path);
  std::vector<std::byte> piece(kPieceBytes);
  std::uint64_t offset = kvtier::record_offset(0);
  std::uint64_t mixed = 0;
  records = 0;
  const double began = wall_seconds();
  const double cpu_began = thread_cpu_seconds();
  for (;;) {
    const ssize_t moved = ::pread(file.get(), piece.data(), piece.size(), static_cast<off_t>(offset));
    if (moved < 0) return Status::from_errno(errno, "reading " + path);
    if (moved == 0) break;
    for (ssize_t at = 0; at + 128 <= moved; at += 128) {
      mixed ^= kvtier::xxh3_64(piece.data() + at, 124, 0);
      ++records;
    }
    offset += static_cast<std::uint64_t>(moved);
  }
  const Elapsed elapsed{wall_seconds() - began, thread_cpu_seconds() - cpu_began};
  // The hashes are looked at, so that they are made.
  if (mixed == 0) return Status(kvtier::Code::kInternal, path + " hashes to 0");
  return elapsed;
}

}  // namespace limits
