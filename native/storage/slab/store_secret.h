// The secret of a disk tier's root: 32 random bytes in a file that only its owner can read, made once and never
// changed. Any thread, any process.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/status.h"

namespace kvtier {

using StoreSecret = std::array<std::uint8_t, 32>;

// How a finished file gets its name if nobody has it, for file systems that lack the one or the other; tests put
// failing ones in their place. 0, or an errno value: EEXIST when the name is taken.
struct NamingCalls {
  int (*link)(int directory_fd, const char* from, const char* to) noexcept;    // both names remain
  int (*rename)(int directory_fd, const char* from, const char* to) noexcept;  // `from` is gone
};
[[nodiscard]] const NamingCalls& system_naming_calls() noexcept;

// Reads the file `secret` in the directory, or makes it; of several processes that make it at once, all get the same
// (where the file system can neither link nor rename without replacing, one may fail with kIo while another writes it).
// `directory_path` is for messages. Fails: kNotWritable, kNoSpace, kUnsafeDirectory (others may read it), kIo.
[[nodiscard]] Result<StoreSecret> load_or_make_secret(int directory_fd, const std::string& directory_path,
                                                      const NamingCalls& calls = system_naming_calls());

}  // namespace kvtier
