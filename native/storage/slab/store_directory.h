// The directory of one model's disk tier: <root>/v1/<first 32 hex digits of the fingerprint>/, made 0700, held by one
// opening at a time through LOCK; where that was deleted, still through the locks on its tables and slabs. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"
#include "platform/file_descriptor.h"

namespace kvtier {

using Fingerprint = std::array<std::uint8_t, 32>;

class StoreDirectory {
 public:
  // Makes what is missing and takes the lock. The root is used as given (it may be a link); nothing below it is. Fails:
  // kInvalidValue (an empty name), kNotADirectory, kNotWritable, kUnsafeDirectory (owned by another user, or writable
  // by group or others), kLocked (the message names the holder's pid), kNoSpace, kIo.
  [[nodiscard]] static Result<std::unique_ptr<StoreDirectory>> open(const std::string& root,
                                                                    const Fingerprint& fingerprint);
  // Opens an existing store directory (the one with the tables, not the root) to look only: nothing is created, no lock
  // is taken. The fingerprint is the one that the tables name. Fails: kNotADirectory, kNotAStore, kUnsupported (a newer
  // format), kNotWritable (no right to look), kIo.
  [[nodiscard]] static Result<std::unique_ptr<StoreDirectory>> open_read_only(const std::string& path);

  StoreDirectory(const StoreDirectory&) = delete;
  StoreDirectory& operator=(const StoreDirectory&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const Fingerprint& fingerprint() const noexcept { return fingerprint_; }
  [[nodiscard]] bool read_only() const noexcept { return !lock_.is_open(); }
  // The directory's descriptor, for openat().
  [[nodiscard]] int fd() const noexcept { return directory_.get(); }
  // 32 random bytes kept in <root>/v1/secret (0600), made at the first open: the key of the tenants' salts where the
  // caller gives none.
  [[nodiscard]] const std::array<std::uint8_t, 32>& secret() const noexcept { return secret_; }

 private:
  StoreDirectory() = default;
  std::string path_;
  Fingerprint fingerprint_{};
  std::array<std::uint8_t, 32> secret_{};
  FileDescriptor directory_;
  FileDescriptor lock_;  // not open: read only
};

}  // namespace kvtier
