// Whether two files have the same bytes: what an engine wrote, and what was put together again. Any thread; the files'
// writers must be done.
#pragma once

#include "core/status.h"
#include "platform/memory_file.h"

namespace kvtier {

// Fails as MemoryFile::size() and read() do.
[[nodiscard]] Result<bool> same_bytes(const MemoryFile& a, const MemoryFile& b);

}  // namespace kvtier
