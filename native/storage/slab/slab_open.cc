#include "storage/slab/slab_open.h"

#include <algorithm>
#include <string>
#include <utility>

#include "layout/slot_layout.h"
#include "platform/file_io.h"
#include "storage/slab/random_bytes.h"
#include "storage/slab/superblock_file.h"

namespace kvtier {
namespace {

std::string file_name(std::uint32_t group, const char* suffix) {
  return "group-" + std::to_string(group) + suffix;
}

std::uint64_t slab_bytes(const GroupShape& shape, std::uint32_t slot_count) noexcept {
  return shape.slot_stride() * slot_count;
}

Status check_options(const StoreDirectory& directory, const SlabOptions& options) {
  if (directory.read_only()) {
    return Status(Code::kNotWritable, directory.path() + " was opened for looking only");
  }
  // The limits of a slab are those of a contiguous layout.
  return SlotLayout::make(LayoutKind::kContiguous, options.shape, options.slot_count).status();
}

Status make_fresh(OpenedSlab& opened, const StoreDirectory& directory, const SlabOptions& options) {
  Superblock& superblock = opened.superblock;
  superblock = Superblock{};
  superblock.generation = 1;
  superblock.fingerprint = directory.fingerprint();
  superblock.group = options.group;
  superblock.shape = options.shape;
  superblock.slot_count = options.slot_count;
  if (Status status = random_bytes(&superblock.store_id, sizeof superblock.store_id); !status.is_ok()) return status;

  // The slab first: it is what may not fit, and until the superblock is there nothing refers to it.
  const std::uint64_t size = slab_bytes(options.shape, options.slot_count);
  if (Status status = opened.slab.reserve(size); !status.is_ok()) return status;
  if (Status status = opened.table.shrink_to(0); !status.is_ok()) return status;
  if (Status status = opened.table.reserve(table_bytes(options.slot_count)); !status.is_ok()) return status;
  if (Status status = opened.slab.shrink_to(size); !status.is_ok()) return status;
  return write_first_superblock(opened.table, superblock);
}

// Makes the files as long as the superblock says. Reserves before it promises and promises less before it cuts, so that
// the superblock on the disk never names slots that the files do not have.
Status keep(OpenedSlab& opened, const SlabOptions& options) {
  Superblock& superblock = opened.superblock;
  const std::uint32_t held_count = superblock.slot_count;
  const std::uint64_t held_slab = slab_bytes(options.shape, held_count);
  const std::uint64_t size = slab_bytes(options.shape, options.slot_count);
  // A crash while shrinking may have left records of slots that were given up.
  if (Status status = opened.table.shrink_to(table_bytes(held_count)); !status.is_ok()) return status;
  if (Status status = opened.slab.reserve(size); !status.is_ok()) return status;
  if (Status status = opened.table.reserve(table_bytes(options.slot_count)); !status.is_ok()) {
    (void)opened.slab.shrink_to(held_slab);
    return status;
  }
  if (options.slot_count != held_count) {
    superblock.slot_count = options.slot_count;
    superblock.generation += 1;
    if (Status status = write_next_superblock(opened.table, superblock); !status.is_ok()) return status;
  }
  if (Status status = opened.table.shrink_to(table_bytes(options.slot_count)); !status.is_ok()) return status;
  return opened.slab.shrink_to(size);
}

// A file's own sync does not have to bring its name to the disk.
Status sync_names(const StoreDirectory& directory) {
  const int error = file_io().sync(directory.fd());
  if (error == 0) return Status::ok();
  return Status(Code::kIo, Status::from_errno(error, "syncing " + directory.path()).message());
}

Result<OpenedSlab> open_files(const StoreDirectory& directory, std::uint32_t group) {
  auto table = SlabFile::open(directory, file_name(group, ".table"));
  if (!table.is_ok()) return table.status();
  auto slab = SlabFile::open(directory, file_name(group, ".slab"));
  if (!slab.is_ok()) return slab.status();
  return OpenedSlab{std::move(slab).value(), std::move(table).value(), Superblock{}, 0, false};
}

}  // namespace

Result<OpenedSlab> open_slab(const StoreDirectory& directory, const SlabOptions& options) {
  if (Status status = check_options(directory, options); !status.is_ok()) return status;
  auto files = open_files(directory, options.group);
  if (!files.is_ok()) return files.status();
  OpenedSlab opened = std::move(files).value();
  const auto found = read_superblock(opened.table);
  if (!found.is_ok()) return found.status();

  // A table without its slab promises blocks that are gone.
  const bool kept = found.value() && found.value()->fingerprint == directory.fingerprint() && !opened.slab.created();
  Status status;
  if (!kept) {
    status = make_fresh(opened, directory, options);
  } else if (found.value()->shape != options.shape || found.value()->group != options.group) {
    status = Status(Code::kLayoutMismatch,
                    opened.table.path() + " holds group " + std::to_string(found.value()->group) + " of " +
                        describe(found.value()->shape) + "; group " + std::to_string(options.group) + " of " +
                        describe(options.shape) + " was asked for. Delete the file to start anew");
  } else {
    opened.superblock = *found.value();
    status = keep(opened, options);
  }
  if (status.is_ok() && (opened.slab.created() || opened.table.created())) status = sync_names(directory);
  if (!status.is_ok()) return status;
  opened.slab.keep();
  opened.table.keep();
  opened.usable_slots = opened.superblock.slot_count;
  opened.direct = options.direct && opened.slab.try_direct();
  return opened;
}

Result<OpenedSlab> open_slab_read_only(const StoreDirectory& directory, std::uint32_t group) {
  auto files = open_files(directory, group);
  if (!files.is_ok()) return files.status();
  OpenedSlab opened = std::move(files).value();
  auto found = read_superblock(opened.table);
  if (!found.is_ok()) return found.status();
  if (!found.value()) return Status(Code::kNotAStore, opened.table.path() + " has no readable superblock");
  opened.superblock = *found.value();
  // What a superblock says costs nothing to claim: only what can have a record is taken for a slot, and at least one.
  const auto size = opened.table.size();
  if (!size.is_ok()) return size.status();
  opened.usable_slots = std::max(1U, std::min(opened.superblock.slot_count, records_in(size.value())));
  // Looking through a large slab must not push everything else out of the page cache.
  opened.direct = opened.slab.try_direct();
  return opened;
}

}  // namespace kvtier
