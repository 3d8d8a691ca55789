#include "platform/cufile/direct_scratch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "platform/cuda/cuda_error.h"
#include "platform/file_descriptor.h"
#include "platform/file_io.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kFewestDeviceBytes = std::uint64_t{4} << 20;
constexpr int kMostAttempts = 16;

// The scratch file, which has lost its name when this goes.
class ScratchFile {
 public:
  [[nodiscard]] static Result<ScratchFile> make(int directory, const std::string& path) {
    const std::string name = path + "/" + kDirectTestFile;
    for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
      ::unlinkat(directory, kDirectTestFile, 0);  // of a process that was killed
      const int fd = ::openat(directory, kDirectTestFile, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
      if (fd >= 0) return ScratchFile(directory, FileDescriptor(fd), name);
      if (errno != EEXIST) return Status::from_errno(errno, "making " + name);
    }
    return Status(Code::kIo, name + " cannot be removed");
  }
  ScratchFile(ScratchFile&& other) noexcept = default;
  ScratchFile& operator=(ScratchFile&&) = delete;
  // Another process that tests here at the same time may have taken the name away, or over: that does no harm.
  ~ScratchFile() {
    if (file_.is_open()) ::unlinkat(directory_, kDirectTestFile, 0);
  }

  [[nodiscard]] int get() const noexcept { return file_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  ScratchFile(int directory, FileDescriptor file, std::string path)
      : directory_(directory), file_(std::move(file)), path_(std::move(path)) {}
  int directory_;
  FileDescriptor file_;
  std::string path_;
};

template <typename Move>
Status move_all(std::span<std::byte> bytes, std::uint64_t offset, const std::string& what, Move move) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const iovec part{bytes.data() + done, bytes.size() - done};
    const ssize_t moved = move(part, offset + done);
    if (moved < 0) return Status(Code::kIo, Status::from_errno(errno, what).message());
    const std::size_t kept = static_cast<std::size_t>(moved) / kCufileAlignment * kCufileAlignment;
    if (kept == 0) return Status(Code::kIo, what + " ended after " + std::to_string(done) + " bytes");
    done += kept;
  }
  return Status::ok();
}

}  // namespace

Result<ScratchMemory> ScratchMemory::make(const std::shared_ptr<const CudaContext>& context, std::uint64_t size_bytes) {
  auto stream = CudaStream::create(context, CudaStreamPriority::kNormal);
  if (!stream) return stream.status();
  ScratchMemory memory(std::move(stream).value());
  memory.size_bytes_ = std::max(size_bytes, kFewestDeviceBytes);
  const cuda::Functions& functions = context->functions();
  const cuda::Error error = functions.mem_alloc(&memory.address_, memory.size_bytes_);
  if (error == cuda::Error::kSuccess) return memory;
  memory.address_ = 0;
  return cuda::to_status(functions, error, "cuMemAlloc of " + std::to_string(memory.size_bytes_) + " bytes");
}

ScratchMemory::ScratchMemory(ScratchMemory&& other) noexcept
    : stream_(std::move(other.stream_)),
      address_(std::exchange(other.address_, 0)),
      size_bytes_(other.size_bytes_),
      is_busy_(std::exchange(other.is_busy_, false)) {}

ScratchMemory::~ScratchMemory() {
  if (address_ == 0 || (is_busy_ && !stream_.synchronize())) return;
  static_cast<void>(stream_.context().functions().mem_free(address_));
}

Status ScratchMemory::note(cuda::Error error, const char* what) {
  if (error != cuda::Error::kSuccess) return cuda::to_status(stream_.context().functions(), error, what);
  is_busy_ = true;
  return Status::ok();
}

Status ScratchMemory::queue_fill(std::uint64_t offset, std::span<const std::byte> source) {
  return note(stream_.context().functions().memcpy_htod_async(address_ + offset, source.data(), source.size(),
                                                              stream_.handle()),
              "cuMemcpyHtoDAsync");
}

Status ScratchMemory::settle() {
  Status status = stream_.synchronize();
  is_busy_ = !status.is_ok();
  return status;
}

Status ScratchMemory::fill(std::uint64_t offset, std::span<const std::byte> source) {
  Status status = queue_fill(offset, source);
  return status ? settle() : status;
}

Status ScratchMemory::copy_to(std::uint64_t offset, std::span<std::byte> target) {
  Status status = note(stream_.context().functions().memcpy_dtoh_async(target.data(), address_ + offset, target.size(),
                                                                       stream_.handle()),
                       "cuMemcpyDtoHAsync");
  return status ? settle() : status;
}

Status with_direct_scratch(const CufileDriver& driver, const std::shared_ptr<const CudaContext>& context, int directory,
                           const std::string& path, const DirectScratchSizes& sizes,
                           const std::function<Status(const DirectScratch&)>& use) {
  auto memory = ScratchMemory::make(context, sizes.device_bytes);
  if (!memory) return memory.status();
  const auto scratch = ScratchFile::make(directory, path);
  if (!scratch) return scratch.status();
  const std::string& name = scratch.value().path();
  if (const int error = file_io().allocate(scratch.value().get(), 0, sizes.file_bytes); error != 0) {
    return Status::from_errno(error, "reserving " + std::to_string(sizes.file_bytes) + " bytes for " + name);
  }
  const auto file = CufileHandle::open(driver, scratch.value().get(), name);
  if (!file) {
    return Status(file.status().code(), file.status().message() +
                                            " (GPUDirect Storage needs ext4 or xfs on NVMe, or another file system of "
                                            "NVIDIA's list)");
  }
  auto buffer = CufileBuffer::register_range(driver, context, memory.value().address(), memory.value().size_bytes());
  if (!buffer) return buffer.status();
  Status status = use({file.value(), name, buffer.value(), memory.value()});
  if (Status released = buffer.value().release(); !released) {
    memory.value().keep();
    if (status) status = std::move(released);
  }
  return status;
}

Status read_scratch(const DirectScratch& scratch, std::uint64_t offset, std::span<std::byte> bytes) {
  return move_all(bytes, offset, "reading " + scratch.path, [&](const iovec& part, std::uint64_t at) {
    return file_io().preadv(scratch.file.descriptor(), &part, 1, at);
  });
}

Status write_scratch(const DirectScratch& scratch, std::uint64_t offset, std::span<std::byte> bytes) {
  return move_all(bytes, offset, "writing " + scratch.path, [&](const iovec& part, std::uint64_t at) {
    return file_io().pwritev(scratch.file.descriptor(), &part, 1, at);
  });
}

void fill_random(std::span<std::byte> bytes, std::uint64_t seed) noexcept {
  for (std::size_t at = 0; at + sizeof seed <= bytes.size(); at += sizeof seed) {
    seed += 0x9E3779B97F4A7C15U;
    std::uint64_t word = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9U;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBU;
    word ^= word >> 31;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

}  // namespace kvtier
