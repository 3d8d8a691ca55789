#include "platform/cufile/cufile_handle.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "platform/cufile/cufile_error.h"
#include "platform/retry.h"

namespace kvtier {
namespace {

// Calls in a row that may move nothing that can be kept (less than a page, or a signal came) before that is an error.
constexpr int kMaxStalls = 32;

Status cannot_open(int errno_value, const std::string& path) {
  if (errno_value == EINVAL) {
    return Status(Code::kUnsupported,
                  path + " cannot be opened for direct I/O: the file system has no O_DIRECT; use ext4 or xfs on NVMe");
  }
  Status status = Status::from_errno(errno_value, "opening " + path + " once more, for cuFile");
  return status.code() == Code::kNotWritable ? status : Status(Code::kIo, status.message());
}

}  // namespace

Result<CufileHandle> CufileHandle::open(const CufileDriver& driver, int descriptor, std::string path) {
#if defined(O_DIRECT)
  if (!driver.is_ready()) return Status(Code::kUnsupported, driver.reason());
  // By the descriptor and not by name: it is this very file, whoever has renamed it or put a link in its place.
  const std::string same = "/proc/self/fd/" + std::to_string(descriptor);
  FileDescriptor file(retried([&] { return ::open(same.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC); }));
  if (!file.is_open()) return cannot_open(errno, path);
  CufileHandle handle(driver, std::move(file), std::move(path));
  cufile::Description description;
  description.file.fd = handle.file_.get();
  const cufile::Outcome outcome = driver.functions().handle_register(&handle.handle_, &description);
  if (outcome.error == cufile::Error::kSuccess) return handle;
  handle.handle_ = nullptr;
  return cufile::to_status(driver.cuda().functions(), outcome, "cuFileHandleRegister of " + handle.path_);
#else
  (void)descriptor;
  return Status(Code::kUnsupported, path + " cannot be opened for direct I/O on this system");
#endif
}

CufileHandle::CufileHandle(const CufileDriver& driver, FileDescriptor file, std::string path) noexcept
    : driver_(driver), file_(std::move(file)), path_(std::move(path)) {}

CufileHandle::CufileHandle(CufileHandle&& other) noexcept
    : driver_(other.driver_),
      file_(std::move(other.file_)),
      path_(std::move(other.path_)),
      handle_(std::exchange(other.handle_, nullptr)) {}

CufileHandle::~CufileHandle() {
  if (handle_ != nullptr) driver_.functions().handle_deregister(handle_);
}

ssize_t CufileHandle::move_once(Direction direction, const CufileBuffer& buffer, const Piece& piece) const {
  const cufile::Functions& functions = driver_.functions();
  void* const base = reinterpret_cast<void*>(buffer.base());
  const auto file_offset = static_cast<off_t>(piece.file_offset);
  const auto buffer_offset = static_cast<off_t>(piece.buffer_offset);
  return direction == Direction::kRead ? functions.read(handle_, base, piece.size_bytes, file_offset, buffer_offset)
                                       : functions.write(handle_, base, piece.size_bytes, file_offset, buffer_offset);
}

Status CufileHandle::move(Direction direction, const CufileBuffer& buffer, const Piece& piece) const {
  KVTIER_CHECK(&buffer.driver() == &driver_);
  const bool reads = direction == Direction::kRead;
  std::uint64_t done = 0;
  const auto what = [&] {
    return std::string(reads ? "cuFileRead of " : "cuFileWrite of ") + std::to_string(piece.size_bytes) + " bytes at " +
           std::to_string(piece.file_offset) + " of " + path_ + ", of which " + std::to_string(done) + " were moved";
  };
  if ((piece.file_offset | piece.buffer_offset | piece.size_bytes) % kCufileAlignment != 0) {
    return Status(Code::kInvalidValue, what() + ": it does not begin and end at multiples of " +
                                           std::to_string(kCufileAlignment) + ", or its place in memory (" +
                                           std::to_string(piece.buffer_offset) + ") does not");
  }
  if (piece.buffer_offset > buffer.size_bytes() || piece.size_bytes > buffer.size_bytes() - piece.buffer_offset) {
    return Status(Code::kInvalidValue, what() + ": at " + std::to_string(piece.buffer_offset) + " of a buffer of " +
                                           std::to_string(buffer.size_bytes()) + " bytes");
  }
  // cuFile takes only threads that have a context.
  const auto current = CurrentContext::enter(buffer.context());
  if (!current) return current.status();
  int stalls = 0;
  while (done < piece.size_bytes && stalls < kMaxStalls) {
    const ssize_t moved = move_once(direction, buffer,
                                    {.file_offset = piece.file_offset + done,
                                     .buffer_offset = piece.buffer_offset + done,
                                     .size_bytes = piece.size_bytes - done});
    const int error = errno;
    if (moved < 0 && !(moved == -1 && error == EINTR)) {
      return cufile::transfer_failure(driver_.cuda().functions(), moved, error, what());
    }
    if (moved == 0) break;
    // The next call has to start at a page again; moving the bytes before it once more does no harm.
    const auto kept = moved < 0 ? 0 : static_cast<std::uint64_t>(moved) / kCufileAlignment * kCufileAlignment;
    if (kept > piece.size_bytes - done) return Status(Code::kIo, what() + ": cuFile moved more than it was asked for");
    stalls = kept == 0 ? stalls + 1 : 0;
    done += kept;
  }
  if (done == piece.size_bytes) return Status::ok();
  return Status(Code::kIo, what() + (reads ? " (the file ends there)" : " (nothing more was taken)"));
}

Status CufileHandle::read(std::uint64_t file_offset, const CufileBuffer& buffer, std::uint64_t buffer_offset,
                          std::uint64_t size_bytes) const {
  return move(Direction::kRead, buffer, {file_offset, buffer_offset, size_bytes});
}

Status CufileHandle::write(std::uint64_t file_offset, const CufileBuffer& buffer, std::uint64_t buffer_offset,
                           std::uint64_t size_bytes) const {
  return move(Direction::kWrite, buffer, {file_offset, buffer_offset, size_bytes});
}

}  // namespace kvtier
