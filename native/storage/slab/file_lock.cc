#include "storage/slab/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "platform/retry.h"

namespace kvtier {
namespace {

// Openings in a row that another process may spoil before that is an error.
constexpr int kMostAttempts = 16;

// Whether the name still leads to the open file. Fails with what looking failed with.
Result<bool> is_named(int fd, int directory_fd, const std::string& name, const std::string& path) {
  struct stat held {};
  struct stat named {};
  if (::fstat(fd, &held) != 0) return Status::from_errno(errno, "looking at " + path);
  if (::fstatat(directory_fd, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return Status::from_errno(errno, "looking at " + path);
  }
  return held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

}  // namespace

Result<LockedFile> open_locked(int directory_fd, const std::string& name, const std::string& path,
                               const std::function<int()>& open_file) {
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    FileDescriptor file(open_file());
    if (!file.is_open()) return Status::from_errno(errno, "opening " + path);
    if (retried([&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno != EWOULDBLOCK) return Status::from_errno(errno, "locking " + path);
      return LockedFile{std::move(file), false};
    }
    const auto named = is_named(file.get(), directory_fd, name, path);
    if (!named.is_ok()) return named.status();
    if (named.value()) return LockedFile{std::move(file), true};
  }
  return Status(Code::kIo, path + " was replaced by another process each of the " + std::to_string(kMostAttempts) +
                               " times that it was opened");
}

}  // namespace kvtier
