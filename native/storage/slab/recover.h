// Reading a table back: which records count, which of two records of one block is the newer, which blocks have lost a
// block before them. One thread at a time.
#pragma once

#include <cstdint>
#include <span>

#include "core/status.h"
#include "storage/slab/record.h"
#include "storage/slab/slab_file.h"
#include "storage/slab/slab_storage.h"

namespace kvtier {

// Reads `checksums.size()` records, or as many as the file has, and fills `checksums` for the good ones. Fails:
// kOutOfMemory, kIo (no part of the table can be read, or too many cannot).
[[nodiscard]] Result<SlabContents> recover_table(const SlabFile& table, const TableIdentity& identity,
                                                 bool keep_orphans, std::span<Checksum> checksums);

}  // namespace kvtier
