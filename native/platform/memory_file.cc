#include "platform/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "core/check.h"
#include "platform/file_io.h"
#include "platform/retry.h"

namespace kvtier {
namespace {

Status failed(const std::string& path, const char* what, int error) {
  return Status::from_errno(error, path + ": " + what);
}

#if defined(__linux__)
constexpr int kPopulateWrite = 23;      // MADV_POPULATE_WRITE of Linux 5.14
constexpr unsigned kNeverRun = 0x0008;  // MFD_NOEXEC_SEAL of Linux 6.3, which some systems insist on

FileDescriptor open_nameless() noexcept {
  int fd = ::memfd_create("kvtier-image", MFD_CLOEXEC | kNeverRun);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create("kvtier-image", MFD_CLOEXEC);
  return FileDescriptor(fd);
}
#endif

// Bytes that the parts have in all.
std::uint64_t total_of(std::span<const iovec> parts) noexcept {
  std::uint64_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  return total;
}

// The parts without their first `moved` bytes.
std::span<iovec> without(std::span<iovec> parts, std::size_t moved) noexcept {
  while (!parts.empty() && moved >= parts.front().iov_len) {
    moved -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (moved != 0) {
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + moved;
    parts.front().iov_len -= moved;
  }
  return parts;
}

}  // namespace

MemoryFile::MemoryFile(MemoryFileKind kind, FileDescriptor file, std::string path) noexcept
    : kind_(kind), file_(std::move(file)), path_(std::move(path)) {}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept
    : kind_(other.kind_),
      file_(std::move(other.file_)),
      path_(std::move(other.path_)),
      mapping_(std::move(other.mapping_)),
      unwritten_(std::move(other.unwritten_)) {}

MemoryFile::~MemoryFile() {
  if (file_.is_open() && kind_ == MemoryFileKind::kTemporary) ::unlink(path_.c_str());
}

Result<MemoryFile> MemoryFile::create() {
  Result<MemoryFile> nameless = create(MemoryFileKind::kMemory);
  // No descriptors left is no lack of such files.
  if (nameless.is_ok() || nameless.status().code() != Code::kUnsupported) return nameless;
  return create(MemoryFileKind::kTemporary);
}

Result<MemoryFile> MemoryFile::create(MemoryFileKind kind) {
  if (kind == MemoryFileKind::kMemory) {
#if defined(__linux__)
    FileDescriptor file = open_nameless();
    if (!file.is_open()) {
      const int error = errno;
      const bool lacks_them = error == ENOSYS || error == EINVAL || error == EPERM || error == EACCES;
      if (lacks_them) return Status(Code::kUnsupported, "the system makes no files in memory (memfd_create)");
      return failed("a file in memory", "could not be made", error);
    }
    std::string path = "/proc/self/fd/" + std::to_string(file.get());
    if (::access(path.c_str(), R_OK | W_OK) != 0) {
      return Status(Code::kUnsupported, path + " cannot be opened: /proc is not there");
    }
    return MemoryFile(kind, std::move(file), std::move(path));
#else
    return Status(Code::kUnsupported, "this system makes no files in memory");
#endif
  }
  const char* const folder = std::getenv("TMPDIR");
  std::string path = (folder != nullptr && *folder != '\0' ? std::string(folder) : "/tmp") + "/kvtier-image-XXXXXX";
  FileDescriptor file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file.is_open()) return failed(path, "a temporary file could not be made", errno);
  return MemoryFile(kind, std::move(file), std::move(path));
}

Result<std::uint64_t> MemoryFile::size() const {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) return failed(path_, "its size could not be read", errno);
  return static_cast<std::uint64_t>(info.st_size);
}

Status MemoryFile::reserve(std::uint64_t size_bytes) {
  const Result<std::uint64_t> present = size();
  if (!present.is_ok()) return present.status();
  mapping_.touched_bytes = std::min({mapping_.touched_bytes, present.value(), size_bytes});
  if (present.value() > size_bytes &&
      retried([&] { return ::ftruncate(file_.get(), static_cast<off_t>(size_bytes)); }) != 0) {
    return failed(path_, "it could not be shortened", errno);
  }
  if (mapping_.touched_bytes == size_bytes) return Status::ok();
  if (const int error = file_io().allocate(file_.get(), 0, size_bytes); error != 0) {
    return failed(path_, ("no room for an image of " + std::to_string(size_bytes) + " bytes").c_str(), error);
  }
  return Status::ok();
}

Result<std::span<std::byte>> MemoryFile::begin_write(std::uint64_t size_bytes) {
  if (Status status = reserve(size_bytes); !status.is_ok()) return status;
  if (size_bytes == 0) return std::span<std::byte>();
  if (map(size_bytes)) return std::span(mapping_.data, size_bytes);
  unwritten_ = Mapping();
  if (!unwritten_.make(size_bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1)) {
    return Status(Code::kOutOfMemory, path_ + ": no memory for an image of " + std::to_string(size_bytes) + " bytes");
  }
  return std::span(unwritten_.data, size_bytes);
}

Status MemoryFile::end_write() {
  const Mapping bytes = std::move(unwritten_);
  if (bytes.data == nullptr) return Status::ok();
  iovec part{bytes.data, bytes.size_bytes};
  return write(0, {&part, 1});
}

bool MemoryFile::map(std::uint64_t size_bytes) noexcept {
#if defined(__linux__)
  if (kind_ != MemoryFileKind::kMemory) return false;
  if (mapping_.size_bytes < size_bytes) {
    mapping_ = Mapping();
    if (!mapping_.make(size_bytes, MAP_SHARED, file_.get())) return false;
  }
  // A page at a time costs more than all of them at once. Best effort: they are there, and are mapped when written,
  // too.
  if (mapping_.touched_bytes < size_bytes) static_cast<void>(::madvise(mapping_.data, size_bytes, kPopulateWrite));
  mapping_.touched_bytes = size_bytes;
  return true;
#else
  static_cast<void>(size_bytes);
  return false;
#endif
}

bool MemoryFile::Mapping::make(std::uint64_t length, int flags, int fd) noexcept {
  void* const address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (address == MAP_FAILED) return false;
#if defined(__linux__)
  // A core dump must not hold prompts.
  static_cast<void>(::madvise(address, length, MADV_DONTDUMP));
#endif
  data = static_cast<std::byte*>(address);
  size_bytes = length;
  return true;
}

MemoryFile::Mapping::Mapping(Mapping&& other) noexcept
    : data(std::exchange(other.data, nullptr)),
      size_bytes(std::exchange(other.size_bytes, 0)),
      touched_bytes(std::exchange(other.touched_bytes, 0)) {}

MemoryFile::Mapping& MemoryFile::Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data, other.data);
  std::swap(size_bytes, other.size_bytes);
  std::swap(touched_bytes, other.touched_bytes);
  return *this;
}

MemoryFile::Mapping::~Mapping() {
  if (data != nullptr) ::munmap(data, size_bytes);
}

void MemoryFile::clear() noexcept {
  unwritten_ = Mapping();
  mapping_.touched_bytes = 0;
  static_cast<void>(retried([&] { return ::ftruncate(file_.get(), 0); }));
}

Result<std::uint64_t> MemoryFile::read(std::uint64_t offset, std::span<iovec> parts) const {
  KVTIER_CHECK(parts.size() <= kMaxParts);
  const std::uint64_t wanted = total_of(parts);
  std::uint64_t moved = 0;
  while (moved < wanted) {
    const ssize_t now = file_io().preadv(file_.get(), parts.data(), static_cast<int>(parts.size()), offset + moved);
    if (now < 0) return failed(path_, "it could not be read", errno);
    if (now == 0) break;
    moved += static_cast<std::uint64_t>(now);
    parts = without(parts, static_cast<std::size_t>(now));
  }
  return moved;
}

Status MemoryFile::write(std::uint64_t offset, std::span<iovec> parts) {
  KVTIER_CHECK(parts.size() <= kMaxParts);
  const std::uint64_t wanted = total_of(parts);
  std::uint64_t moved = 0;
  while (moved < wanted) {
    const ssize_t now = file_io().pwritev(file_.get(), parts.data(), static_cast<int>(parts.size()), offset + moved);
    if (now < 0) return failed(path_, "it could not be written", errno);
    if (now == 0) return failed(path_, "nothing could be written", EIO);
    moved += static_cast<std::uint64_t>(now);
    parts = without(parts, static_cast<std::size_t>(now));
  }
  return Status::ok();
}

}  // namespace kvtier
