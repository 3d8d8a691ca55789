#include "storage/slab/recover.h"

#include <algorithm>
#include <utility>

#include "memory/host_buffer.h"
#include "storage/slab/recovered_blocks.h"
#include "storage/slab/superblock_file.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kChunkRecords = 8192;  // 1 MiB a read

// Records the file really has: one that is looked at only may have been cut.
Result<std::uint32_t> readable_records(const SlabFile& table, std::size_t wanted) {
  const auto size = table.size();
  if (!size.is_ok()) return size.status();
  const std::uint64_t bytes = size.value() < kTableHeaderBytes ? 0 : size.value() - kTableHeaderBytes;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, bytes / kRecordBytes));
}

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

  std::uint32_t records = 0;
  for (std::uint32_t first = 0; first < count.value(); first += records) {
    records = std::min(kChunkRecords, count.value() - first);
    if (Status status = table.read({bytes, std::size_t{records} * kRecordBytes}, record_offset(first));
        !status.is_ok()) {
      return status;
    }
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
  if (Status status = blocks.value().finish(keep_orphans, contents); !status.is_ok()) return status;
  return contents;
}

}  // namespace kvtier
