// Reads a sequence state file of llama.cpp: which bytes are which. What the format does not say, such as which caches a
// model has, the caller names. Whatever the file holds, the answer is an image or a Status; payload is not read. Any
// thread; the file's writer must be done.
#pragma once

#include <cstdint>
#include <span>

#include "images/image.h"
#include "platform/memory_file.h"

namespace kvtier::llama {

// Fails: kBadImage with the offset, what was read and what was expected; kInvalidValue for kinds that no image has;
// kIo, kOutOfMemory.
[[nodiscard]] Result<Image> read_state(const MemoryFile& file, std::span<const SectionKind> kinds,
                                       std::uint32_t max_tokens);

}  // namespace kvtier::llama
