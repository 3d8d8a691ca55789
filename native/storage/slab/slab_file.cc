#include "storage/slab/slab_file.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "platform/file_io.h"
#include "storage/slab/file_lock.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kDirectAlignment = 4096;
// Calls in a row that may move nothing that can be kept (with O_DIRECT: less than a page) before that is an error.
constexpr int kMaxStalls = 32;

std::uint64_t length_of(std::span<const iovec> parts) noexcept {
  std::uint64_t length = 0;
  for (const iovec& part : parts) length += part.iov_len;
  return length;
}

// Drops `length` bytes from the front of the parts.
std::span<iovec> drop_front(std::span<iovec> parts, std::uint64_t length) noexcept {
  while (!parts.empty() && length >= parts.front().iov_len) {
    length -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (length != 0 && !parts.empty()) {
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + length;
    parts.front().iov_len -= length;
  }
  return parts;
}

// A failed call on files is an I/O error unless the system says that there is no room or no right to write.
Status io_failure(Status status) {
  if (status.code() == Code::kNoSpace || status.code() == Code::kNotWritable) return status;
  return Status(Code::kIo, status.message());
}

Status io_failure(int errno_value, const std::string& what) {
  return io_failure(Status::from_errno(errno_value, what));
}

Status not_regular(const std::string& path) {
  return Status(Code::kNotAStore, path + " is not a regular file");
}

Status cannot_open(int errno_value, const std::string& path) {
  if (errno_value == ELOOP || errno_value == EISDIR) return not_regular(path);
  return io_failure(errno_value, "opening " + path);
}

struct Opening {
  FileDescriptor file;
  bool created = false;
};

// An existing file, to read only.
Result<Opening> open_to_look(int directory_fd, const std::string& name, const std::string& path) {
  FileDescriptor file(::openat(directory_fd, name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  if (file.is_open()) return Opening{std::move(file), false};
  if (errno == ENOENT) return Status(Code::kNotAStore, "there is no " + path);
  return cannot_open(errno, path);
}

// A file of our own, made where it is missing.
Result<Opening> open_to_use(int directory_fd, const std::string& name, const std::string& path) {
  constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  bool created = false;
  int open_error = 0;
  auto locked = open_locked(directory_fd, name, path, [&] {
    int fd = ::openat(directory_fd, name.c_str(), kFlags | O_CREAT | O_EXCL, 0600);
    created = fd >= 0;
    if (fd < 0 && errno == EEXIST) fd = ::openat(directory_fd, name.c_str(), kFlags | O_NONBLOCK);
    open_error = fd < 0 ? errno : 0;
    return fd;
  });
  if (open_error != 0) return cannot_open(open_error, path);
  if (!locked.is_ok()) return io_failure(locked.status());
  if (!locked.value().taken) {
    return Status(Code::kLocked, path + " is open in another process or manager; close it there");
  }
  return Opening{std::move(locked.value().file), created};
}

}  // namespace

Result<SlabFile> SlabFile::open(const StoreDirectory& directory, const std::string& name) {
  SlabFile file;
  file.path_ = directory.path() + "/" + name;
  file.name_ = name;
  file.directory_fd_ = directory.fd();
  auto opening = directory.read_only() ? open_to_look(directory.fd(), name, file.path_)
                                       : open_to_use(directory.fd(), name, file.path_);
  if (!opening.is_ok()) return opening.status();
  file.file_ = std::move(opening.value().file);
  file.created_ = file.remove_at_exit_ = opening.value().created;

  struct stat about {};
  if (::fstat(file.file_.get(), &about) != 0) return io_failure(errno, "looking at " + file.path_);
  if (!S_ISREG(about.st_mode)) return not_regular(file.path_);
  return file;
}

SlabFile::~SlabFile() {
  if (remove_at_exit_ && file_.is_open()) ::unlinkat(directory_fd_, name_.c_str(), 0);
}

Result<std::uint64_t> SlabFile::size() const {
  struct stat about {};
  if (::fstat(file_.get(), &about) != 0) return io_failure(errno, "looking at " + path_);
  return static_cast<std::uint64_t>(about.st_size);
}

Result<std::uint64_t> SlabFile::disk() const {
  struct stat about {};
  if (::fstat(file_.get(), &about) != 0) return io_failure(errno, "looking at " + path_);
  return static_cast<std::uint64_t>(about.st_dev);
}

Status SlabFile::reserve(std::uint64_t size_bytes) {
  struct stat about {};
  if (::fstat(file_.get(), &about) != 0) return io_failure(errno, "looking at " + path_);
  const auto held = static_cast<std::uint64_t>(about.st_size);
  const std::uint64_t reserved = static_cast<std::uint64_t>(about.st_blocks) * 512;
  if (held >= size_bytes && reserved >= held) return Status::ok();

  const int error = file_io().allocate(file_.get(), 0, size_bytes);
  if (error == 0) return Status::ok();
  // Some file systems keep what they could reserve; give it back. Nothing can be done where that fails too.
  if (const auto now = size(); now.is_ok() && now.value() > held) {
    [[maybe_unused]] const int failed = ::ftruncate(file_.get(), about.st_size);
  }
  return cannot_reserve(size_bytes, held, error);
}

Status SlabFile::cannot_reserve(std::uint64_t asked, std::uint64_t held, int errno_value) const {
  std::string what = "reserving " + std::to_string(asked) + " bytes for " + path_;
  struct statvfs about {};
  if (::fstatvfs(file_.get(), &about) == 0) {
    const std::uint64_t free = std::uint64_t{about.f_bavail} * about.f_frsize;
    what += " (" + std::to_string(free) + " bytes are free, the file has " + std::to_string(held) +
            "; free more or ask for a smaller capacity)";
  }
  return io_failure(errno_value, what);
}

Status SlabFile::shrink_to(std::uint64_t size_bytes) {
  const auto held = size();
  if (!held.is_ok()) return held.status();
  if (held.value() <= size_bytes) return Status::ok();
  if (::ftruncate(file_.get(), static_cast<off_t>(size_bytes)) == 0) return Status::ok();
  return io_failure(errno, "cutting " + path_ + " from " + std::to_string(held.value()) + " to " +
                               std::to_string(size_bytes) + " bytes");
}

bool SlabFile::try_direct() {
#if defined(O_DIRECT)
  const int flags = ::fcntl(file_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(file_.get(), F_SETFL, flags | O_DIRECT) != 0) return false;
  // Some file systems take the flag and refuse the first access, or want more than 4 KiB of alignment.
  alignas(kDirectAlignment) std::array<std::byte, kDirectAlignment> page;
  const iovec part{page.data(), page.size()};
  if (file_io().preadv(file_.get(), &part, 1, 0) < 0 && errno == EINVAL) {
    (void)::fcntl(file_.get(), F_SETFL, flags);
    return false;
  }
  direct_ = true;
  return true;
#else
  return false;
#endif
}

Status SlabFile::move(Direction direction, std::span<iovec> parts, std::uint64_t offset) const {
  const bool reads = direction == Direction::kRead;
  const std::uint64_t asked = length_of(parts);
  std::uint64_t done = 0;
  const auto stopped = [&](int errno_value) {
    return io_failure(errno_value, std::string(reads ? "reading " : "writing ") + std::to_string(asked) + " bytes at " +
                                       std::to_string(offset) + " of " + path_ + ", of which " + std::to_string(done) +
                                       " were moved");
  };
  FileIo& io = file_io();
  int stalls = 0;
  while (done < asked) {
    const int count = static_cast<int>(std::min<std::size_t>(parts.size(), IOV_MAX));
    const ssize_t moved = reads ? io.preadv(file_.get(), parts.data(), count, offset + done)
                                : io.pwritev(file_.get(), parts.data(), count, offset + done);
    if (moved < 0) return stopped(errno);
    if (moved == 0) break;
    // With O_DIRECT the next call has to start at a page again; moving the bytes before it once more does no harm.
    auto kept = static_cast<std::uint64_t>(moved);
    if (direct_) kept -= kept % kDirectAlignment;
    stalls = kept == 0 ? stalls + 1 : 0;
    if (stalls == kMaxStalls) break;
    done += kept;
    parts = drop_front(parts, kept);
  }
  if (done == asked) return Status::ok();
  return Status(Code::kIo, stopped(EIO).message() + (reads ? " (the file ends there)" : " (nothing more was taken)"));
}

Status SlabFile::read(std::span<iovec> parts, std::uint64_t offset) const {
  return move(Direction::kRead, parts, offset);
}

Status SlabFile::write(std::span<iovec> parts, std::uint64_t offset) const {
  return move(Direction::kWrite, parts, offset);
}

Status SlabFile::read(std::span<std::byte> bytes, std::uint64_t offset) const {
  iovec part{bytes.data(), bytes.size()};
  return move(Direction::kRead, {&part, 1}, offset);
}

Status SlabFile::write(std::span<const std::byte> bytes, std::uint64_t offset) const {
  // The system reads from where an iovec points when it writes a file.
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return move(Direction::kWrite, {&part, 1}, offset);
}

Status SlabFile::sync() const {
  const int error = file_io().sync(file_.get());
  return error == 0 ? Status::ok() : io_failure(error, "syncing " + path_);
}

}  // namespace kvtier
