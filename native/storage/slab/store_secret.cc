#include "storage/slab/store_secret.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "storage/slab/file_descriptor.h"
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

// Writes a whole file under a name of its own and then gives it the right name, unless another process was first.
Status make(int directory_fd, const std::string& path) {
  StoreSecret secret;
  if (Status status = random_bytes(secret.data(), secret.size()); !status.is_ok()) return status;
  std::uint64_t unique = 0;
  if (Status status = random_bytes(&unique, sizeof unique); !status.is_ok()) return status;
  const std::string name = std::string(kName) + "." + std::to_string(unique) + ".new";

  const FileDescriptor file(
      ::openat(directory_fd, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.is_open()) return Status::from_errno(errno, "making " + path);
  errno = ENOSPC;  // what a short write means here
  Status status;
  if (::write(file.get(), secret.data(), secret.size()) != static_cast<ssize_t>(secret.size()) ||
      ::fsync(file.get()) != 0 ||
      (::linkat(directory_fd, name.c_str(), directory_fd, kName, 0) != 0 && errno != EEXIST)) {
    status = Status::from_errno(errno, "making " + path);
  }
  ::unlinkat(directory_fd, name.c_str(), 0);
  return status;
}

}  // namespace

Result<StoreSecret> load_or_make_secret(int directory_fd, const std::string& directory_path) {
  const std::string path = directory_path + "/" + kName;
  auto loaded = load(directory_fd, path);
  if (!loaded.is_ok()) return loaded.status();
  if (loaded.value()) return *loaded.value();
  if (Status status = make(directory_fd, path); !status.is_ok()) return status;
  loaded = load(directory_fd, path);
  if (!loaded.is_ok()) return loaded.status();
  if (loaded.value()) return *loaded.value();
  return Status(Code::kIo, path + " was deleted while it was made");
}

}  // namespace kvtier
