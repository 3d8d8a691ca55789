// Opening a slab and its table: keeping, growing, shrinking or starting anew. One thread at a time.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "storage/slab/slab_file.h"
#include "storage/slab/slab_storage.h"
#include "storage/slab/superblock.h"

namespace kvtier {

struct OpenedSlab {
  SlabFile slab;
  SlabFile table;
  Superblock superblock;
  std::uint32_t usable_slots = 0;  // fewer than the superblock names where the table was cut
  bool direct = false;
};

// As SlabStorage::open() and SlabStorage::open_read_only().
[[nodiscard]] Result<OpenedSlab> open_slab(const StoreDirectory& directory, const SlabOptions& options);
[[nodiscard]] Result<OpenedSlab> open_slab_read_only(const StoreDirectory& directory, std::uint32_t group);

}  // namespace kvtier
