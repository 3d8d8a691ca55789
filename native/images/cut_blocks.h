// Copies blocks of an image that was read out of its file into slots of host memory, in canonical order: layer by layer
// the rows of K, then V, which is [token][embedding] or, transposed, [embedding][token]. Any thread; the caller holds
// the slots.
#pragma once

#include <cstdint>
#include <span>

#include "images/image.h"
#include "platform/memory_file.h"
#include "storage/storage.h"

namespace kvtier {

struct BlockMove {
  std::uint32_t block = 0;  // its first position, divided by the storage's tokens a block; recurrent: 0
  std::uint32_t slot = 0;
};

// Makes no checksums. When it fails no slot counts as filled: kInvalidValue where a position is not in the image,
// kBadImage where the file is shorter than it was, those of BlockSlots and MemoryFile.
[[nodiscard]] Status cut_blocks(const MemoryFile& file, const SectionShape& shape, const SectionPlace& place,
                                const Storage& storage, std::span<const BlockMove> moves);

}  // namespace kvtier
