#include "platform/probe/directory_probe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

#include "core/status.h"
#include "platform/file_descriptor.h"

#if defined(__linux__)
#include <sys/vfs.h>
#elif defined(__APPLE__)
#include <sys/mount.h>
#include <sys/param.h>
#endif

namespace kvtier {
namespace {

struct KnownFileSystem {
  std::uint32_t magic;
  const char* name;
};

constexpr KnownFileSystem kKnownFileSystems[] = {
    {0x0000EF53, "ext4"},  // ext2 and ext3 share the number
    {0x58465342, "xfs"},       {0x9123683E, "btrfs"},    {0x01021994, "tmpfs"}, {0x00006969, "nfs"},
    {0x794C7630, "overlayfs"}, {0x2FC12FC1, "zfs"},      {0xF2F52010, "f2fs"},  {0x65735546, "fuse"},
    {0xCA451A4E, "bcachefs"},  {0x0BD00BD0, "lustre"},   {0x00C36400, "ceph"},  {0x47504653, "gpfs"},
    {0x19830326, "beegfs"},    {0xFF534D42, "cifs"},     {0xFE534D42, "smb"},   {0x01021997, "9p"},
    {0x858458F6, "ramfs"},     {0x00004D44, "vfat"},     {0x2011BAB0, "exfat"}, {0x5346544E, "ntfs"},
    {0x73717368, "squashfs"},  {0x0000F15F, "ecryptfs"}, {0x01161970, "gfs2"},  {0x7461636F, "ocfs2"},
};

// Makes a file in the directory that has no name, or has lost it again when this returns. -1 with errno set on failure.
int open_temporary(int directory, int extra_flags) noexcept {
  constexpr int kMode = 0600;
#if defined(O_TMPFILE)
  const int nameless = ::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | extra_flags, kMode);
  // What kernels and file systems without nameless files answer; EINVAL may also be about O_DIRECT.
  const bool unknown = nameless < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL);
  if (!unknown) return nameless;
#endif
  static std::atomic<unsigned> counter{0};
  char name[64];
  std::snprintf(name, sizeof name, ".kvtier-probe-%ld-%u", static_cast<long>(::getpid()), counter.fetch_add(1));
  const int fd = ::openat(directory, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW | extra_flags, kMode);
  // A refused O_DIRECT may leave the file that was made for it.
  const int error = errno;
  if (fd >= 0 || (error != EEXIST && extra_flags != 0)) ::unlinkat(directory, name, 0);
  errno = error;
  return fd;
}

bool opens_direct(int directory) noexcept {
#if defined(O_DIRECT)
  return FileDescriptor(open_temporary(directory, O_DIRECT)).is_open();
#elif defined(__APPLE__)
  const FileDescriptor file(open_temporary(directory, 0));
  return file.is_open() && ::fcntl(file.get(), F_NOCACHE, 1) == 0;
#else
  (void)directory;
  return false;
#endif
}

std::string file_system_of(int directory) {
#if defined(__linux__)
  struct statfs info {};
  if (::fstatfs(directory, &info) != 0) return {};
  // The number has 32 bits; where f_type is a signed int it must not be widened with its sign.
  return file_system_name(static_cast<std::uint32_t>(info.f_type));
#elif defined(__APPLE__)
  struct statfs info {};
  return ::fstatfs(directory, &info) == 0 ? std::string(info.f_fstypename) : std::string();
#else
  (void)directory;
  return {};
#endif
}

std::uint64_t free_bytes_of(int directory) noexcept {
  struct statvfs info {};
  if (::fstatvfs(directory, &info) != 0) return 0;
  return static_cast<std::uint64_t>(info.f_bavail) * static_cast<std::uint64_t>(info.f_frsize);
}

std::string why_not_open(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
      return path + " does not exist: create it with mode 0700, owned by the user that runs kvtier";
    case ENOTDIR:
      return path + " is not a directory: name another path";
    case EACCES:
    case EPERM:
      return path + " cannot be read by this user: give the user that runs kvtier access to it";
    default:
      return Status::from_errno(error, path).message();
  }
}

std::string why_not_writable(const std::string& path, int error) {
  switch (error) {
    case EACCES:
    case EPERM:
      return path + " cannot be written by this user: give it to the user that runs kvtier (mode 0700)";
    case EROFS:
      return path + " is on a file system that is mounted read-only: mount it for writing, or name another path";
    case ENOSPC:
    case EDQUOT:
      return path + " has no room for another file: free some space, or name another path";
    default:
      return "no file can be made in " + Status::from_errno(error, path).message();
  }
}

}  // namespace

std::string file_system_name(std::uint64_t magic) {
  for (const KnownFileSystem& known : kKnownFileSystems) {
    if (known.magic == magic) return known.name;
  }
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(magic));
  return text;
}

DirectoryProbe probe_directory(const std::string& path) {
  DirectoryProbe probe;
  probe.path = path;
  const FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.is_open()) {
    const int error = errno;
    struct stat info {};
    probe.exists = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    probe.reason = why_not_open(path, error);
    return probe;
  }
  probe.exists = true;
  probe.file_system = file_system_of(directory.get());
  probe.free_bytes = free_bytes_of(directory.get());
  if (const FileDescriptor file(open_temporary(directory.get(), 0)); !file.is_open()) {
    probe.reason = why_not_writable(path, errno);
    return probe;
  }
  probe.writable = true;
  probe.direct = opens_direct(directory.get());
  if (!probe.direct) {
    probe.reason = path + " does not take O_DIRECT (file system " + probe.file_system +
                   "): reads and writes go through the page cache, at about half the speed; prefer ext4 or xfs on NVMe";
  }
  return probe;
}

}  // namespace kvtier
