#include "platform/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "platform/retry.h"

namespace kvtier {
namespace {

FileIo& system_file_io() noexcept {
  // Never destroyed, so that a thread that outlives main() finds it.
  static FileIo* const instance = new FileIo();
  return *instance;
}

// nullptr means the system's.
std::atomic<FileIo*> g_replacement{nullptr};

#if defined(__APPLE__)
int allocate_once(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  const off_t end = static_cast<off_t>(offset + length);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size < 0) return errno;
  if (size >= end) return 0;
  fstore_t request{};
  request.fst_flags = F_ALLOCATEALL;
  request.fst_posmode = F_PEOFPOSMODE;
  request.fst_length = end - size;
  if (::fcntl(fd, F_PREALLOCATE, &request) != 0) return errno;
  return ::ftruncate(fd, end) == 0 ? 0 : errno;
}

int sync_once(int fd) noexcept {
  // fsync alone leaves the bytes in the drive's cache; file systems without F_FULLFSYNC get the plain call.
  if (::fcntl(fd, F_FULLFSYNC) == 0) return 0;
  return ::fsync(fd) == 0 ? 0 : errno;
}
#else
// Not posix_fallocate: where a file system cannot allocate, glibc's writes a byte into every block, which takes hours
// over a network and fails on an O_DIRECT descriptor. Such a file becomes long and sparse instead.
int allocate_once(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  if (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) return 0;
  if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
  const off_t end = static_cast<off_t>(offset + length);
  struct stat info {};
  if (::fstat(fd, &info) != 0) return errno;
  if (info.st_size >= end) return 0;
  return ::ftruncate(fd, end) == 0 ? 0 : errno;
}

int sync_once(int fd) noexcept {
  return ::fdatasync(fd) == 0 ? 0 : errno;
}
#endif

}  // namespace

ssize_t FileIo::preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept {
  return retried([&] { return ::preadv(fd, parts, part_count, static_cast<off_t>(offset)); });
}

ssize_t FileIo::pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept {
  return retried([&] { return ::pwritev(fd, parts, part_count, static_cast<off_t>(offset)); });
}

int FileIo::allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  return retried_error([&] { return allocate_once(fd, offset, length); });
}

int FileIo::sync(int fd) noexcept {
  return retried_error([&] { return sync_once(fd); });
}

FileIo& file_io() noexcept {
  FileIo* replacement = g_replacement.load(std::memory_order_acquire);
  return replacement != nullptr ? *replacement : system_file_io();
}

void replace_file_io(FileIo* replacement) noexcept {
  g_replacement.store(replacement, std::memory_order_release);
}

}  // namespace kvtier
