#include "storage/slab/store_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <optional>
#include <string_view>
#include <utility>

#include "storage/slab/file_lock.h"
#include "storage/slab/slab_file.h"
#include "storage/slab/store_secret.h"
#include "storage/slab/superblock_file.h"

namespace kvtier {
namespace {

constexpr mode_t kDirectoryMode = 0700;
constexpr const char* kFormatDirectory = "v1";
constexpr std::size_t kNameBytes = 16;  // of the fingerprint, in the store's name

std::string name_of(const Fingerprint& fingerprint) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name;
  for (std::size_t i = 0; i < kNameBytes; ++i) {
    name += kDigits[fingerprint[i] >> 4];
    name += kDigits[fingerprint[i] & 15];
  }
  return name;
}

Status not_a_directory(const std::string& path) {
  return Status(Code::kNotADirectory, path + " is not a directory; a directory for the disk tier was asked for");
}

// Makes every missing directory of the path.
Status make_directories(const std::string& path) {
  // A parent that cannot be made matters only if the next one then finds it missing.
  int parent_error = ENOENT;
  for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    if (::mkdir(path.substr(0, end).c_str(), kDirectoryMode) != 0 && errno != EEXIST && errno != ENOENT) {
      parent_error = errno;
    }
  }
  if (::mkdir(path.c_str(), kDirectoryMode) == 0 || errno == EEXIST) return Status::ok();
  const int error = errno == ENOENT ? parent_error : errno;
  if (error == ENOTDIR) return not_a_directory(path);
  return Status::from_errno(error, "making the directory " + path);
}

// The directory must be the process's own, and nobody else may put files into it.
Status check_safe(int fd, const std::string& path) {
  struct stat about {};
  if (::fstat(fd, &about) != 0) return Status::from_errno(errno, "looking at " + path);
  if (about.st_uid != ::geteuid()) {
    return Status(Code::kUnsafeDirectory, path + " belongs to user " + std::to_string(about.st_uid) +
                                              " and this process runs as user " + std::to_string(::geteuid()) +
                                              "; choose another directory, or run: chown " +
                                              std::to_string(::geteuid()) + " '" + path + "'");
  }
  if ((about.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Status(Code::kUnsafeDirectory,
                  "other users may write to " + path + "; choose another directory, or run: chmod go-w '" + path + "'");
  }
  return Status::ok();
}

Result<FileDescriptor> open_checked(int parent_fd, const std::string& name, const std::string& path, int more_flags) {
  FileDescriptor directory(::openat(parent_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | more_flags));
  if (!directory.is_open()) {
    if (errno == ENOTDIR || errno == ELOOP) return not_a_directory(path);
    return Status::from_errno(errno, "opening the directory " + path);
  }
  if (Status status = check_safe(directory.get(), path); !status.is_ok()) return status;
  return directory;
}

// A directory below one that is already known to be safe.
Result<FileDescriptor> make_below(const FileDescriptor& parent, const std::string& name, const std::string& path) {
  if (::mkdirat(parent.get(), name.c_str(), kDirectoryMode) == 0) {
    // A directory whose name was lost with the power is an empty store, which is allowed: a failure does not matter.
    (void)::fsync(parent.get());
  } else if (errno != EEXIST) {
    return Status::from_errno(errno, "making the directory " + path);
  }
  return open_checked(parent.get(), name, path, O_NOFOLLOW);
}

std::string holder_of(int lock_fd) {
  char text[32] = {};
  const ssize_t length = ::pread(lock_fd, text, sizeof text - 1, 0);
  long pid = 0;
  if (length <= 0 || std::from_chars(text, text + length, pid).ec != std::errc() || pid <= 0) return "another process";
  return pid == ::getpid() ? "this process (pid " + std::to_string(pid) + ")" : "process " + std::to_string(pid);
}

// The text is for the message only. Whoever deletes the file lets a second opening pass here; that one is refused by
// the locks on the tables and slabs themselves, which SlabFile takes.
Result<FileDescriptor> take_lock(const FileDescriptor& directory, const std::string& directory_path) {
  static constexpr const char* kName = "LOCK";
  const std::string path = directory_path + "/" + kName;
  auto lock = open_locked(directory.get(), kName, path, [&directory] {
    return ::openat(directory.get(), kName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  });
  if (!lock.is_ok()) return lock.status();
  FileDescriptor file = std::move(lock.value().file);
  if (!lock.value().taken) {
    return Status(Code::kLocked, directory_path + " is held by " + holder_of(file.get()) +
                                     "; close it there, or choose another directory");
  }
  const std::string text = std::to_string(::getpid()) + " " + std::to_string(std::time(nullptr)) + "\n";
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), text.data(), text.size(), 0) < 0) {
    return Status::from_errno(errno, "writing " + path);
  }
  return file;
}

// The number in "group-<number>.table".
std::optional<std::uint32_t> group_of_table(std::string_view name) {
  constexpr std::string_view kPrefix = "group-";
  constexpr std::string_view kSuffix = ".table";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) || name.size() <= kPrefix.size() + kSuffix.size()) {
    return std::nullopt;
  }
  const std::string_view digits = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  std::uint32_t group = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), group);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return group;
}

std::vector<std::string> tables_in(int directory_fd) {
  std::vector<std::string> names;
  const int fd = ::openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const directory = fd < 0 ? nullptr : ::fdopendir(fd);
  if (directory == nullptr) {
    if (fd >= 0) ::close(fd);
    return names;
  }
  while (const dirent* entry = ::readdir(directory)) {
    if (group_of_table(entry->d_name)) names.emplace_back(entry->d_name);
  }
  ::closedir(directory);
  return names;
}

}  // namespace

Result<std::unique_ptr<StoreDirectory>> StoreDirectory::open(const std::string& root, const Fingerprint& fingerprint) {
  if (root.empty() || root.find('\0') != std::string::npos) {
    return Status(Code::kInvalidValue,
                  "a directory for the disk tier was asked for, and its name is empty or holds a zero byte");
  }
  if (Status status = make_directories(root); !status.is_ok()) return status;
  // The root is used as the caller gave it, links included; everything below is made here and is never a link.
  const auto root_fd = open_checked(AT_FDCWD, root, root, 0);
  if (!root_fd.is_ok()) return root_fd.status();
  const std::string format_path = root + "/" + kFormatDirectory;
  const auto format_fd = make_below(root_fd.value(), kFormatDirectory, format_path);
  if (!format_fd.is_ok()) return format_fd.status();
  const std::string name = name_of(fingerprint);
  const std::string path = format_path + "/" + name;
  auto directory_fd = make_below(format_fd.value(), name, path);
  if (!directory_fd.is_ok()) return directory_fd.status();
  auto lock = take_lock(directory_fd.value(), path);
  if (!lock.is_ok()) return lock.status();
  const auto secret = load_or_make_secret(format_fd.value().get(), format_path);
  if (!secret.is_ok()) return secret.status();

  auto directory = std::unique_ptr<StoreDirectory>(new StoreDirectory());
  directory->path_ = path;
  directory->fingerprint_ = fingerprint;
  directory->secret_ = secret.value();
  directory->directory_ = std::move(directory_fd).value();
  directory->lock_ = std::move(lock).value();
  return directory;
}

Result<std::unique_ptr<StoreDirectory>> StoreDirectory::open_read_only(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.is_open()) {
    if (errno == ENOTDIR) return not_a_directory(path);
    if (errno == ENOENT) return Status(Code::kNotAStore, path + " does not exist");
    return Status::from_errno(errno, "opening the directory " + path);
  }
  auto directory = std::unique_ptr<StoreDirectory>(new StoreDirectory());
  directory->path_ = path;
  directory->directory_ = std::move(fd);

  // The fingerprint is what the tables say, so that a copied or renamed directory can be looked at too.
  const std::vector<std::string> names = tables_in(directory->fd());
  Status failure(Code::kNotAStore, path + " holds no table of kvtier; stores are the directories in <root>/v1");
  for (const std::string& name : names) {
    const auto table = SlabFile::open(*directory, name);
    auto superblock = table.is_ok() ? read_superblock(table.value()) : table.status();
    if (!superblock.is_ok()) {
      failure = superblock.status();
    } else if (superblock.value()) {
      directory->fingerprint_ = superblock.value()->fingerprint;
      return directory;
    } else {
      failure = Status(Code::kNotAStore, path + "/" + name + " has no readable superblock");
    }
  }
  return failure;
}

}  // namespace kvtier
