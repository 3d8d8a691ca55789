#include "storage/slab/recover.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "memory/host_buffer.h"
#include "storage/slab/recovered_blocks.h"
#include "storage/slab/superblock_file.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kChunkRecords = 8192;  // 1 MiB a read
constexpr std::uint32_t kPartRecords = 32;     // 4 KiB, what a disk loses at a time
// Each failed read may take the disk seconds: one that fails this often is not worth waiting for.
constexpr std::uint32_t kMostBadParts = 256;

// Records the file really has: one that is looked at only may have been cut.
Result<std::uint32_t> readable_records(const SlabFile& table, std::size_t wanted) {
  const auto size = table.size();
  if (!size.is_ok()) return size.status();
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, records_in(size.value())));
}

// Reads a table from its first record on. Where the disk fails, the records of that part are zero, as if empty.
class TableReader {
 public:
  TableReader(const SlabFile& table, std::byte* buffer) noexcept : table_(table), buffer_(buffer) {}

  // Fills the buffer. Fails when the disk failed too often.
  [[nodiscard]] Status read(std::uint32_t first, std::uint32_t count) {
    if (read_part(first, 0, count).is_ok()) {
      read_any_ = true;
      return Status::ok();
    }
    for (std::uint32_t done = 0; done < count; done += kPartRecords) {
      const std::uint32_t now = std::min(kPartRecords, count - done);
      Status status = read_part(first, done, now);
      if (status.is_ok()) {
        read_any_ = true;
        continue;
      }
      if (++bad_parts_ > kMostBadParts) return status;
      std::memset(buffer_ + std::size_t{done} * kRecordBytes, 0, std::size_t{now} * kRecordBytes);
      unreadable_ += now;
      failure_ = std::move(status);
    }
    return Status::ok();
  }

  [[nodiscard]] std::uint32_t unreadable() const noexcept { return unreadable_; }
  // After the last read: a failure where nothing could be read, which must not look like an empty table.
  [[nodiscard]] Status end() const { return read_any_ ? Status::ok() : failure_; }

 private:
  [[nodiscard]] Status read_part(std::uint32_t first, std::uint32_t at, std::uint32_t count) const {
    return table_.read({buffer_ + std::size_t{at} * kRecordBytes, std::size_t{count} * kRecordBytes},
                       record_offset(first + at));
  }

  const SlabFile& table_;
  std::byte* buffer_;
  Status failure_;
  std::uint32_t bad_parts_ = 0;
  std::uint32_t unreadable_ = 0;
  bool read_any_ = false;
};

}  // namespace

Result<SlabContents> recover_table(const SlabFile& table, const TableIdentity& identity, bool keep_orphans,
                                   std::span<Checksum> checksums) {
  const auto count = readable_records(table, checksums.size());
  if (!count.is_ok()) return count.status();
  SlabContents contents;
  contents.next_sequence = 1;
  if (count.value() == 0) return contents;

  auto blocks = RecoveredBlocks::make(count.value());
  if (!blocks.is_ok()) return blocks.status();
  auto chunk = HostBuffer::allocate(std::size_t{std::min(kChunkRecords, count.value())} * kRecordBytes,
                                    {.prefault = false, .threads = 1});
  if (!chunk.is_ok()) return chunk.status();
  std::byte* const bytes = chunk.value().data();
  TableReader reader(table, bytes);

  std::uint32_t records = 0;
  for (std::uint32_t first = 0; first < count.value(); first += records) {
    records = std::min(kChunkRecords, count.value() - first);
    if (Status status = reader.read(first, records); !status.is_ok()) return status;
    for (std::uint32_t i = 0; i < records; ++i) {
      const std::span<const std::byte, kRecordBytes> record_bytes(bytes + std::size_t{i} * kRecordBytes, kRecordBytes);
      DecodedRecord record;
      switch (decode_record(identity, first + i, record_bytes, record)) {
        case RecordState::kEmpty:
          break;
        case RecordState::kRejected:
          ++contents.records_rejected;
          break;
        case RecordState::kGood:
          checksums[first + i] = record.checksum;
          contents.next_sequence = std::max(contents.next_sequence, record.sequence + 1);
          blocks.value().add(first + i, record);
          break;
      }
    }
  }
  if (Status status = reader.end(); !status.is_ok()) return status;
  contents.records_unreadable = reader.unreadable();
  if (Status status = blocks.value().finish(keep_orphans, contents); !status.is_ok()) return status;
  return contents;
}

}  // namespace kvtier
