#include "storage/slab/slab_storage.h"

#include <limits.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <utility>

#include "memory/host_buffer.h"
#include "storage/gds/direct_slab.h"
#include "storage/slab/record.h"
#include "storage/slab/recover.h"
#include "storage/slab/slab_file.h"
#include "storage/slab/slab_open.h"
#include "storage/slab/superblock_file.h"

namespace kvtier {
namespace {

// Records encoded on the stack at a time; a longer run takes more than one write.
constexpr std::size_t kRecordsAtOnce = 128;
// Buffers named to the system in one call.
constexpr std::size_t kPartsAtOnce = std::min<std::size_t>(IOV_MAX, 512);

// Moves a run between buffers and consecutive slots; `move` takes the parts and the offset of as many slots as fit one
// call. Buffers that are neighbours in memory are one part.
template <typename Move>
Status move_run(std::span<std::byte* const> buffers, std::uint64_t offset, std::size_t stride, Move move) {
  std::array<iovec, kPartsAtOnce> parts;
  std::size_t count = 0;
  std::uint64_t pending = 0;
  for (std::byte* const buffer : buffers) {
    iovec* const last = count == 0 ? nullptr : &parts[count - 1];
    if (last != nullptr && static_cast<std::byte*>(last->iov_base) + last->iov_len == buffer) {
      last->iov_len += stride;
    } else {
      if (count == parts.size()) {
        if (Status status = move(std::span(parts.data(), count), offset); !status.is_ok()) return status;
        offset += pending;
        pending = 0;
        count = 0;
      }
      parts[count++] = {buffer, stride};
    }
    pending += stride;
  }
  return count == 0 ? Status::ok() : move(std::span(parts.data(), count), offset);
}

Status looking_only(const SlabFile& file) {
  return Status(Code::kNotWritable, file.path() + " was opened for looking only");
}

Status write_zero_records(const SlabFile& table, std::uint32_t first_slot, std::size_t count) {
  static constexpr std::array<std::byte, kRecordsAtOnce * kRecordBytes> kZero{};
  Status failure;
  while (count != 0) {
    const std::size_t now = std::min(count, kRecordsAtOnce);
    Status status = table.write(std::span(kZero).first(now * kRecordBytes), record_offset(first_slot));
    if (!status.is_ok() && failure.is_ok()) failure = std::move(status);
    first_slot += static_cast<std::uint32_t>(now);
    count -= now;
  }
  return failure;
}

}  // namespace

struct SlabStorage::Files {
  OpenedSlab opened;
  TableIdentity identity;
  bool read_only = false;
  std::atomic<std::uint64_t> next_sequence{1};
  HostBuffer checksum_memory;
  std::span<Checksum> checksums;                  // one a slot
  std::unique_ptr<const DirectSlab> direct_slab;  // nullptr: no direct transfers

  // The first sync that failed, as later ones report it; OK while none has.
  [[nodiscard]] Status sync_failure() {
    const std::lock_guard guard(sync_mutex);
    if (first_failure.is_ok()) return Status::ok();
    return Status(first_failure.code(), "an earlier sync failed: " + first_failure.message());
  }
  void sync_failed(const Status& status) {
    const std::lock_guard guard(sync_mutex);
    if (first_failure.is_ok()) first_failure = status;
  }

  std::mutex sync_mutex;  // guards the one below
  Status first_failure;
};

SlabStorage::SlabStorage() = default;
SlabStorage::~SlabStorage() = default;

Result<std::unique_ptr<SlabStorage>> SlabStorage::open(const StoreDirectory& directory, const SlabOptions& options) {
  auto opened = open_slab(directory, options);
  if (!opened.is_ok()) return opened.status();
  return adopt(std::make_unique<Files>(std::move(opened).value()));
}

Result<std::unique_ptr<SlabStorage>> SlabStorage::open_read_only(const StoreDirectory& directory, std::uint32_t group) {
  auto opened = open_slab_read_only(directory, group);
  if (!opened.is_ok()) return opened.status();
  auto files = std::make_unique<Files>(std::move(opened).value());
  files->read_only = true;
  return adopt(std::move(files));
}

Result<std::unique_ptr<SlabStorage>> SlabStorage::adopt(std::unique_ptr<Files> files) {
  const Superblock& superblock = files->opened.superblock;
  auto storage = std::unique_ptr<SlabStorage>(new SlabStorage());
  StorageInfo& info = storage->info_;
  info.kind = "slab";
  info.shape = superblock.shape;
  info.slot_count = files->opened.usable_slots;
  info.slot_stride = superblock.shape.slot_stride();
  info.keeps_checksums = true;
  info.persistent = true;
  const auto disk = files->opened.slab.disk();
  if (!disk.is_ok()) return disk.status();
  info.disk = disk.value();
  storage->direct_ = files->opened.direct;
  storage->store_id_ = superblock.store_id;
  storage->named_slots_ = superblock.slot_count;
  files->identity.store_id = superblock.store_id;
  files->identity.group = superblock.group;
  files->identity.payload_bytes = static_cast<std::uint32_t>(superblock.shape.block_bytes());
  // Not touched before use: a table may name far more slots than it has records.
  auto memory =
      HostBuffer::allocate(std::size_t{info.slot_count} * sizeof(Checksum), {.prefault = false, .threads = 1});
  if (!memory.is_ok()) return memory.status();
  files->checksum_memory = std::move(memory).value();
  files->checksums = {reinterpret_cast<Checksum*>(files->checksum_memory.data()), info.slot_count};
  storage->files_ = std::move(files);
  return storage;
}

Result<SlabContents> SlabStorage::recover(bool keep_orphans) {
  auto contents = recover_table(files_->opened.table, files_->identity, keep_orphans, files_->checksums);
  if (contents.is_ok()) files_->next_sequence.store(contents.value().next_sequence);
  return contents;
}

Checksum SlabStorage::checksum_at(std::uint32_t slot) const noexcept {
  KVTIER_CHECK(slot < info_.slot_count);
  return files_->checksums[slot];
}

void SlabStorage::set_checksum(std::uint32_t slot, const Checksum& checksum) noexcept {
  KVTIER_CHECK(slot < info_.slot_count);
  files_->checksums[slot] = checksum;
}

Status SlabStorage::check_slots(std::uint32_t first_slot, std::size_t count) const {
  if (first_slot <= info_.slot_count && count <= info_.slot_count - first_slot) return Status::ok();
  return Status(Code::kSlotOutOfRange, std::to_string(count) + " slots from " + std::to_string(first_slot) +
                                           " were asked for; " + files_->opened.slab.path() + " has " +
                                           std::to_string(info_.slot_count));
}

Status SlabStorage::open_direct(const CufileDriver& driver) {
  const SlabFile& slab = files_->opened.slab;
  if (files_->read_only) return looking_only(slab);
  if (!direct_) {
    return Status(Code::kUnsupported, slab.path() +
                                          " is not open for direct I/O (O_DIRECT), which transfers between "
                                          "it and a GPU need");
  }
  auto opened = DirectSlab::open(driver, slab, info_.slot_stride);
  if (!opened.is_ok()) return opened.status();
  files_->direct_slab = std::move(opened).value();
  info_.direct_device = true;
  return Status::ok();
}

template <typename WritePayloads>
Status SlabStorage::store_run(std::uint32_t first_slot, std::span<const BlockRecord> records,
                              WritePayloads write_payloads) {
  if (files_->read_only) return looking_only(files_->opened.slab);
  if (Status status = check_slots(first_slot, records.size()); !status.is_ok()) return status;

  Status status = write_payloads();
  if (status.is_ok()) status = write_records(first_slot, records);
  for (std::size_t i = 0; i < records.size(); ++i) {
    set_checksum(first_slot + static_cast<std::uint32_t>(i), status.is_ok() ? records[i].checksum : Checksum{});
  }
  // The records that were there may describe bytes that are gone. What cannot be erased either will fail its check.
  if (!status.is_ok()) (void)write_zero_records(files_->opened.table, first_slot, records.size());
  return status;
}

Status SlabStorage::write_run(std::uint32_t first_slot, std::span<const std::byte* const> payloads,
                              std::span<const BlockRecord> records) noexcept {
  KVTIER_CHECK(payloads.size() == records.size());
  return store_run(first_slot, records, [&] { return write_payloads(first_slot, payloads); });
}

Status SlabStorage::write_run_from_device(std::uint32_t first_slot, std::span<const DevicePayload> payloads,
                                          std::span<const BlockRecord> records) noexcept {
  KVTIER_CHECK(payloads.size() == records.size());
  if (files_->direct_slab == nullptr) return Storage::write_run_from_device(first_slot, payloads, records);
  return store_run(first_slot, records, [&] { return files_->direct_slab->write(first_slot, payloads); });
}

Status SlabStorage::write_payloads(std::uint32_t first_slot, std::span<const std::byte* const> payloads) const {
  // The system only reads from the parts of a write.
  const std::span buffers(const_cast<std::byte* const*>(payloads.data()), payloads.size());
  return move_run(
      buffers, first_slot * info_.slot_stride, info_.slot_stride,
      [this](std::span<iovec> parts, std::uint64_t offset) { return files_->opened.slab.write(parts, offset); });
}

Status SlabStorage::write_records(std::uint32_t first_slot, std::span<const BlockRecord> records) const {
  std::array<std::byte, kRecordsAtOnce * kRecordBytes> bytes;
  std::uint64_t sequence = files_->next_sequence.fetch_add(records.size());
  while (!records.empty()) {
    const std::size_t now = std::min(records.size(), kRecordsAtOnce);
    for (std::size_t i = 0; i < now; ++i) {
      encode_record(files_->identity, first_slot + static_cast<std::uint32_t>(i), sequence++, records[i],
                    std::span<std::byte, kRecordBytes>(bytes.data() + i * kRecordBytes, kRecordBytes));
    }
    if (Status status =
            files_->opened.table.write(std::span(bytes).first(now * kRecordBytes), record_offset(first_slot));
        !status.is_ok()) {
      return status;
    }
    first_slot += static_cast<std::uint32_t>(now);
    records = records.subspan(now);
  }
  return Status::ok();
}

Status SlabStorage::read_run(std::uint32_t first_slot, std::span<std::byte* const> payloads) noexcept {
  if (Status status = check_slots(first_slot, payloads.size()); !status.is_ok()) return status;
  return move_run(
      payloads, first_slot * info_.slot_stride, info_.slot_stride,
      [this](std::span<iovec> parts, std::uint64_t offset) { return files_->opened.slab.read(parts, offset); });
}

Status SlabStorage::read_run_to_device(std::uint32_t first_slot, std::span<const DevicePayload> payloads) noexcept {
  if (files_->direct_slab == nullptr) return Storage::read_run_to_device(first_slot, payloads);
  if (Status status = check_slots(first_slot, payloads.size()); !status.is_ok()) return status;
  return files_->direct_slab->read(first_slot, payloads);
}

Status SlabStorage::erase(std::span<const std::uint32_t> slots) noexcept {
  if (files_->read_only) return looking_only(files_->opened.table);
  for (const std::uint32_t slot : slots) {
    if (Status status = check_slots(slot, 1); !status.is_ok()) return status;
  }
  Status failure;
  for (std::size_t first = 0, end = 0; first < slots.size(); first = end) {
    for (end = first + 1; end < slots.size() && slots[end] == slots[end - 1] + 1;) ++end;
    Status status = write_zero_records(files_->opened.table, slots[first], end - first);
    if (!status.is_ok() && failure.is_ok()) failure = std::move(status);
  }
  return failure;
}

Status SlabStorage::sync() noexcept {
  if (files_->read_only) return looking_only(files_->opened.slab);
  if (Status earlier = files_->sync_failure(); !earlier.is_ok()) return earlier;
  Status slab = files_->opened.slab.sync();
  Status table = files_->opened.table.sync();
  const Status& failed = slab.is_ok() ? table : slab;
  // Another thread's failure counts here too: what was dropped then may be what this sync was asked for.
  if (failed.is_ok()) return files_->sync_failure();
  files_->sync_failed(failed);
  return failed;
}

}  // namespace kvtier
