// The secret of a disk tier's root: 32 random bytes in a file that only its owner can read, made once and never
// changed. Any thread, any process.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/status.h"

namespace kvtier {

using StoreSecret = std::array<std::uint8_t, 32>;

// Reads the file `secret` in the directory, or makes it; of several processes that make it at once, all get the same.
// `directory_path` is for messages. Fails: kNotWritable, kNoSpace, kUnsafeDirectory (others may read it), kIo.
[[nodiscard]] Result<StoreSecret> load_or_make_secret(int directory_fd, const std::string& directory_path);

}  // namespace kvtier
