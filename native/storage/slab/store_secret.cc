#include "storage/slab/store_secret.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <stdio.h>
#endif

#include <algorithm>
#include <cerrno>
#include <optional>

#include "platform/file_descriptor.h"
#include "storage/slab/random_bytes.h"

namespace kvtier {
namespace {

constexpr const char* kName = "secret";

// nullopt when there is none yet.
Result<std::optional<StoreSecret>> load(int directory_fd, const std::string& path) {
  const FileDescriptor file(::openat(directory_fd, kName, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  if (!file.is_open()) {
    if (errno == ENOENT) return std::optional<StoreSecret>();
    return Status::from_errno(errno, "opening " + path);
  }
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return Status::from_errno(errno, "looking at " + path);
  if (about.st_uid != ::geteuid() || (about.st_mode & 077) != 0) {
    return Status(Code::kUnsafeDirectory,
                  path +
                      " can be read or was made by other users; whoever knows it can tell which "
                      "prompts were seen. Delete it to have a new one made (stored blocks are then not found)");
  }
  StoreSecret secret;
  std::array<std::uint8_t, secret.size() + 1> bytes;
  const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return Status::from_errno(errno, "reading " + path);
  if (static_cast<std::size_t>(got) != secret.size()) {
    return Status(Code::kIo, path + " is damaged: it has not " + std::to_string(secret.size()) +
                                 " bytes. Delete it to have a new one made (stored blocks are then not found)");
  }
  std::copy_n(bytes.begin(), secret.size(), secret.begin());
  return std::optional(secret);
}

int link_call(int directory_fd, const char* from, const char* to) noexcept {
  return ::linkat(directory_fd, from, directory_fd, to, 0) == 0 ? 0 : errno;
}

int rename_call(int directory_fd, const char* from, const char* to) noexcept {
#if defined(__linux__) && defined(SYS_renameat2)
  constexpr unsigned kNoReplace = 1;  // RENAME_NOREPLACE
  return ::syscall(SYS_renameat2, directory_fd, from, directory_fd, to, kNoReplace) == 0 ? 0 : errno;
#elif defined(__APPLE__)
  return ::renameatx_np(directory_fd, from, directory_fd, to, RENAME_EXCL) == 0 ? 0 : errno;
#else
  (void)directory_fd, (void)from, (void)to;
  return ENOSYS;
#endif
}

// What file systems answer to a call that they do not have.
bool is_lacking(int error) noexcept {
  return error == EPERM || error == EOPNOTSUPP || error == ENOTSUP || error == ENOSYS || error == EINVAL ||
         error == EMLINK;
}

// Makes a file that is not there yet and brings the secret to the disk. 0, or an errno value.
int write_new(int directory_fd, const char* name, const StoreSecret& secret) {
  const FileDescriptor file(::openat(directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.is_open()) return errno;
  const ssize_t written = ::write(file.get(), secret.data(), secret.size());
  if (written == static_cast<ssize_t>(secret.size()) && ::fsync(file.get()) == 0) return 0;
  const int error = written < 0 || written == static_cast<ssize_t>(secret.size()) ? errno : ENOSPC;
  ::unlinkat(directory_fd, name, 0);
  return error;
}

// Writes a whole file under a name of its own and then gives it the right name, unless another process was first.
Status make(int directory_fd, const std::string& path, const NamingCalls& calls) {
  StoreSecret secret;
  if (Status status = random_bytes(secret.data(), secret.size()); !status.is_ok()) return status;
  std::uint64_t unique = 0;
  if (Status status = random_bytes(&unique, sizeof unique); !status.is_ok()) return status;
  const std::string name = std::string(kName) + "." + std::to_string(unique) + ".new";

  int error = write_new(directory_fd, name.c_str(), secret);
  if (error != 0) return Status::from_errno(error, "making " + path);
  error = calls.link(directory_fd, name.c_str(), kName);
  if (is_lacking(error)) error = calls.rename(directory_fd, name.c_str(), kName);
  ::unlinkat(directory_fd, name.c_str(), 0);
  // The last resort: whoever looks while it is written finds a damaged secret, which is an error and never another one.
  if (is_lacking(error)) error = write_new(directory_fd, kName, secret);
  return error == 0 || error == EEXIST ? Status::ok() : Status::from_errno(error, "making " + path);
}

}  // namespace

const NamingCalls& system_naming_calls() noexcept {
  static constexpr NamingCalls kCalls{&link_call, &rename_call};
  return kCalls;
}

Result<StoreSecret> load_or_make_secret(int directory_fd, const std::string& directory_path, const NamingCalls& calls) {
  const std::string path = directory_path + "/" + kName;
  auto loaded = load(directory_fd, path);
  if (!loaded.is_ok()) return loaded.status();
  if (loaded.value()) return *loaded.value();
  if (Status status = make(directory_fd, path, calls); !status.is_ok()) return status;
  loaded = load(directory_fd, path);
  if (!loaded.is_ok()) return loaded.status();
  if (loaded.value()) return *loaded.value();
  return Status(Code::kIo, path + " was deleted while it was made");
}

}  // namespace kvtier
