// Writes the sequence state file of a prefix, as llama.cpp would after it had evaluated it: cells in the order of their
// positions, all that the shape says as it was. Any thread; the caller holds the slots, and no engine has the file
// open.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "images/block_slots.h"
#include "images/image_shape.h"
#include "platform/memory_file.h"

namespace kvtier::llama {

struct BadBlock {
  std::uint32_t section = 0;
  std::uint32_t index = 0;  // in the source's slots
};

struct WrittenState {
  std::uint64_t size_bytes = 0;  // of the file; 0 where a block is bad
  std::vector<BadBlock> bad;
};

// `sources` has one a section. Attention and latent sections get the positions from their first block's to that of the
// last token, a recurrent state the last token's. Every block is verified while it is copied. Whenever the file is not
// the whole state it is empty. Fails: kInvalidValue (shape of no version that is known, sources that do not fit
// the tokens), kNoSpace, kOutOfMemory, kIo, those of BlockSlots.
[[nodiscard]] Result<WrittenState> write_state(MemoryFile& file, const ImageShape& shape,
                                               std::span<const std::uint32_t> tokens,
                                               std::span<const BlockSource> sources);

}  // namespace kvtier::llama
