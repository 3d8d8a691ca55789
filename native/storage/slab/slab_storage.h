// One layer group's disk tier: a preallocated slab of slots and a table of 128-byte records, group-<n>.slab and
// group-<n>.table in a StoreDirectory. No journal, no compaction, no fsync ordering: a record counts only if its own
// hash is good, and a block only if its payload matches the record. read_run and write_run come from several engine
// threads at once, for different slots; open and recover from one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "storage/slab/store_directory.h"
#include "storage/storage.h"

namespace kvtier {

class CufileDriver;
class DirectSlab;

struct SlabOptions {
  std::uint32_t group = 0;  // number of the layer group
  GroupShape shape;
  std::uint32_t slot_count = 0;  // another count than the file's grows or shrinks the store; blocks that fit are kept
  bool direct = true;            // O_DIRECT where the file system allows it
};

// What a table held when it was opened: one entry a block, a sequence's blocks after each other,
// parents before children.
struct SlabContents {
  std::vector<SequenceHash> hashes;
  std::vector<std::uint32_t> slots;
  std::vector<std::int32_t> parents;  // index into these arrays; -1 = a sequence's first block
  std::vector<std::uint32_t> depths;
  std::vector<std::uint32_t> tenant_tags;
  std::vector<std::uint32_t> priorities;
  std::vector<std::uint32_t> expires_at_s;
  std::vector<std::uint32_t> last_uses_s;
  std::uint64_t next_sequence = 0;
  std::uint32_t records_rejected = 0;    // not empty, but their own hash, store id or slot is wrong
  std::uint32_t records_superseded = 0;  // an older record of the same block
  std::uint32_t records_orphaned = 0;    // good, but a block before them is gone
  std::uint32_t records_unreadable = 0;  // the disk failed where they are
};

class SlabStorage final : public Storage {
 public:
  // Opens or creates the two files and reads the superblock; no record is read. A foreign, truncated or garbage file
  // becomes a fresh store under a new store id. Fails: kNoSpace (the slab is preallocated), kNotWritable, kIo,
  // kLayoutMismatch (a valid superblock of the same fingerprint but another geometry), kUnsupported (a newer format),
  // kInvalidValue, kOutOfMemory, kNotAStore (a link or a folder where a file belongs), kLocked (the group is open).
  [[nodiscard]] static Result<std::unique_ptr<SlabStorage>> open(const StoreDirectory& directory,
                                                                 const SlabOptions& options);
  // For inspect and verify: shape and slot count come from the superblock, the latter cut to what the table has room
  // for; nothing is written and no lock is taken. Fails: kNotAStore, kUnsupported (a newer format), kNotWritable (no
  // right to look), kIo, kOutOfMemory.
  [[nodiscard]] static Result<std::unique_ptr<SlabStorage>> open_read_only(const StoreDirectory& directory,
                                                                           std::uint32_t group);
  ~SlabStorage() override;

  // Lets runs move between the slab and GPUs' memory by cuFile from now on (StorageInfo::direct_device); before anybody
  // else has the storage. verify_direct() has said that it works in this directory. The storage works as before where
  // this fails: kUnsupported (cuFile is not ready or does not take the file, or the slab is not open for direct I/O),
  // kNotWritable (opened for looking only), kIo.
  [[nodiscard]] Status open_direct(const CufileDriver& driver);

  [[nodiscard]] const StorageInfo& info() const noexcept override { return info_; }
  [[nodiscard]] bool direct() const noexcept { return direct_; }
  [[nodiscard]] std::uint64_t store_id() const noexcept { return store_id_; }
  // Slots that the superblock names: more than info() has where the table was cut.
  [[nodiscard]] std::uint32_t named_slots() const noexcept { return named_slots_; }

  // Reads the whole table once, sequentially. `keep_orphans` for window and recurrent groups, whose blocks need no
  // parent. Afterwards checksum_at() answers for every accepted slot and new records get higher sequence numbers. Where
  // the disk fails in places, the records there are left out. Fails: kOutOfMemory, kIo (it fails everywhere, or too
  // often).
  [[nodiscard]] Result<SlabContents> recover(bool keep_orphans);

  [[nodiscard]] Checksum checksum_at(std::uint32_t slot) const noexcept override;
  void set_checksum(std::uint32_t slot, const Checksum& checksum) noexcept override;
  [[nodiscard]] Status write_run(std::uint32_t first_slot, std::span<const std::byte* const> payloads,
                                 std::span<const BlockRecord> records) noexcept override;
  [[nodiscard]] Status read_run(std::uint32_t first_slot, std::span<std::byte* const> payloads) noexcept override;
  [[nodiscard]] Status write_run_from_device(std::uint32_t first_slot, std::span<const DevicePayload> payloads,
                                             std::span<const BlockRecord> records) noexcept override;
  [[nodiscard]] Status read_run_to_device(std::uint32_t first_slot,
                                          std::span<const DevicePayload> payloads) noexcept override;
  [[nodiscard]] Status erase(std::span<const std::uint32_t> slots) noexcept override;
  // Fails for good once it has failed: the system may have dropped what it could not write, and would then report
  // success.
  [[nodiscard]] Status sync() noexcept override;

 private:
  struct Files;
  SlabStorage();
  [[nodiscard]] static Result<std::unique_ptr<SlabStorage>> adopt(std::unique_ptr<Files> files);
  [[nodiscard]] Status check_slots(std::uint32_t first_slot, std::size_t count) const;
  // The part that all writes share: `write_payloads` brings the bytes into the slots.
  template <typename WritePayloads>
  [[nodiscard]] Status store_run(std::uint32_t first_slot, std::span<const BlockRecord> records,
                                 WritePayloads write_payloads);
  [[nodiscard]] Status write_payloads(std::uint32_t first_slot, std::span<const std::byte* const> payloads) const;
  [[nodiscard]] Status write_records(std::uint32_t first_slot, std::span<const BlockRecord> records) const;

  StorageInfo info_;
  std::unique_ptr<Files> files_;
  bool direct_ = false;
  std::uint64_t store_id_ = 0;
  std::uint32_t named_slots_ = 0;
};

}  // namespace kvtier
