#include "platform/cufile/verify_direct.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "platform/cuda/cuda_error.h"
#include "platform/cuda/cuda_stream.h"
#include "platform/cufile/cufile_buffer.h"
#include "platform/cufile/cufile_handle.h"
#include "platform/file_descriptor.h"
#include "platform/file_io.h"

namespace kvtier {
namespace {

constexpr std::size_t kTestBytes = std::size_t{1} << 20;
// Neither transfer begins where its file or buffer does.
constexpr std::uint64_t kFileOffset = 64 << 10;
constexpr std::uint64_t kBufferOffset = 4 << 10;
// So large that the driver gives it pages of its own, which is what cuFile can pin.
constexpr std::size_t kDeviceBytes = std::size_t{4} << 20;
constexpr int kMostAttempts = 16;

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

// Host memory for direct I/O.
class Page {
 public:
  [[nodiscard]] static Result<Page> make() {
    Page page;
    page.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kCufileAlignment, kTestBytes)));
    if (page.memory_ == nullptr) {
      return Status(Code::kOutOfMemory, std::to_string(kTestBytes) + " bytes of host memory are not there");
    }
    std::memset(page.memory_.get(), 0, kTestBytes);
    return page;
  }
  [[nodiscard]] std::byte* data() const noexcept { return memory_.get(); }

  // Bytes that differ from place to place and from seed to seed.
  void fill(std::uint64_t seed) const noexcept {
    for (std::size_t at = 0; at < kTestBytes; at += sizeof seed) {
      seed += 0x9E3779B97F4A7C15U;
      std::uint64_t word = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9U;
      word = (word ^ (word >> 27)) * 0x94D049BB133111EBU;
      word ^= word >> 31;
      std::memcpy(memory_.get() + at, &word, sizeof word);
    }
  }

 private:
  Page() = default;
  std::unique_ptr<std::byte, Free> memory_;
};

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

// Device memory with a stream that fills and reads it. Precondition of all: the context is current.
class ScratchMemory {
 public:
  [[nodiscard]] static Result<ScratchMemory> make(const std::shared_ptr<const CudaContext>& context) {
    auto stream = CudaStream::create(context, CudaStreamPriority::kNormal);
    if (!stream) return stream.status();
    ScratchMemory memory(std::move(stream).value());
    const cuda::Error error = context->functions().mem_alloc(&memory.address_, kDeviceBytes);
    if (error != cuda::Error::kSuccess) memory.address_ = 0;
    if (Status status = memory.to_status(error, "cuMemAlloc of " + std::to_string(kDeviceBytes) + " bytes"); !status) {
      return status;
    }
    return memory;
  }
  ScratchMemory(ScratchMemory&& other) noexcept
      : stream_(std::move(other.stream_)),
        address_(std::exchange(other.address_, 0)),
        is_busy_(std::exchange(other.is_busy_, false)) {}
  ScratchMemory& operator=(ScratchMemory&&) = delete;
  // What is still in use is left to the driver.
  ~ScratchMemory() {
    if (address_ == 0 || (is_busy_ && !stream_.synchronize())) return;
    static_cast<void>(stream_.context().functions().mem_free(address_));
  }

  [[nodiscard]] cuda::DevicePtr address() const noexcept { return address_; }
  void keep() noexcept { address_ = 0; }

  [[nodiscard]] Status fill(const std::byte* source) {
    const cuda::Error error =
        stream_.context().functions().memcpy_htod_async(address_ + kBufferOffset, source, kTestBytes, stream_.handle());
    return settle(error, "cuMemcpyHtoDAsync");
  }
  [[nodiscard]] Status copy_to(std::byte* target) {
    const cuda::Error error =
        stream_.context().functions().memcpy_dtoh_async(target, address_ + kBufferOffset, kTestBytes, stream_.handle());
    return settle(error, "cuMemcpyDtoHAsync");
  }

 private:
  explicit ScratchMemory(CudaStream&& stream) : stream_(std::move(stream)) {}
  [[nodiscard]] Status to_status(cuda::Error error, const std::string& what) const {
    return cuda::to_status(stream_.context().functions(), error, what);
  }
  [[nodiscard]] Status settle(cuda::Error error, const char* what) {
    if (error != cuda::Error::kSuccess) return to_status(error, what);
    is_busy_ = true;
    Status status = stream_.synchronize();
    is_busy_ = !status.is_ok();
    return status;
  }

  CudaStream stream_;
  cuda::DevicePtr address_ = 0;
  bool is_busy_ = false;
};

// All of the test's bytes between host memory and the file, by the system.
template <typename Move>
Status move_all(std::byte* memory, const std::string& what, Move move) {
  std::uint64_t done = 0;
  while (done < kTestBytes) {
    const iovec part{memory + done, kTestBytes - static_cast<std::size_t>(done)};
    const ssize_t moved = move(part, kFileOffset + done);
    if (moved < 0) return Status(Code::kIo, Status::from_errno(errno, what).message());
    const auto kept = static_cast<std::uint64_t>(moved) / kCufileAlignment * kCufileAlignment;
    if (kept == 0) return Status(Code::kIo, what + " ended after " + std::to_string(done) + " bytes");
    done += kept;
  }
  return Status::ok();
}

Status compare(const std::byte* found, const std::byte* wanted, const std::string& what) {
  const std::byte* const end = wanted + kTestBytes;
  const auto different = std::mismatch(wanted, end, found).first;
  if (different == end) return Status::ok();
  return Status(Code::kIo, what + " from byte " + std::to_string(different - wanted) + " on");
}

std::uint64_t fresh_seed() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^
         (static_cast<std::uint64_t>(::getpid()) << 40U);
}

// The bytes there and back again.
Status round_trips(const CufileHandle& file, const std::string& path, const CufileBuffer& buffer,
                   ScratchMemory& memory) {
  const auto wanted = Page::make();
  const auto found = Page::make();
  if (!wanted || !found) return (wanted ? found : wanted).status();
  const std::uint64_t seed = fresh_seed();
  FileIo& io = file_io();

  wanted.value().fill(seed);
  Status status = memory.fill(wanted.value().data());
  if (status) status = file.write(kFileOffset, buffer, kBufferOffset, kTestBytes);
  if (status) {
    status = move_all(found.value().data(), "reading " + path, [&](const iovec& part, std::uint64_t offset) {
      return io.preadv(file.descriptor(), &part, 1, offset);
    });
  }
  if (status) {
    status = compare(found.value().data(), wanted.value().data(),
                     "what cuFile wrote from the GPU into " + path + " is read back otherwise");
  }
  if (!status) return status;

  // The memory still holds the other bytes: those that do not arrive are seen.
  wanted.value().fill(~seed);
  status = move_all(wanted.value().data(), "writing " + path, [&](const iovec& part, std::uint64_t offset) {
    return io.pwritev(file.descriptor(), &part, 1, offset);
  });
  if (status) status = file.read(kFileOffset, buffer, kBufferOffset, kTestBytes);
  if (status) status = memory.copy_to(found.value().data());
  if (!status) return status;
  return compare(found.value().data(), wanted.value().data(),
                 "what cuFile read into the GPU from " + path + " is not what is in the file");
}

Status test(const CufileDriver& driver, const std::shared_ptr<const CudaContext>& context, int directory,
            const std::string& path) {
  auto memory = ScratchMemory::make(context);
  if (!memory) return memory.status();
  const auto scratch = ScratchFile::make(directory, path);
  if (!scratch) return scratch.status();
  const std::string& name = scratch.value().path();
  if (const int error = file_io().allocate(scratch.value().get(), 0, kFileOffset + kTestBytes); error != 0) {
    return Status::from_errno(error, "reserving " + std::to_string(kFileOffset + kTestBytes) + " bytes for " + name);
  }
  const auto file = CufileHandle::open(driver, scratch.value().get(), name);
  if (!file) {
    return Status(file.status().code(), file.status().message() +
                                            " (GPUDirect Storage needs ext4 or xfs on NVMe, or another file system of "
                                            "NVIDIA's list)");
  }
  auto buffer = CufileBuffer::register_range(driver, context, memory.value().address(), kDeviceBytes);
  if (!buffer) return buffer.status();
  Status status = round_trips(file.value(), name, buffer.value(), memory.value());
  if (Status released = buffer.value().release(); !released) {
    memory.value().keep();
    if (status) status = std::move(released);
  }
  return status;
}

}  // namespace

Status verify_direct(const CufileDriver& driver, const std::shared_ptr<const CudaContext>& context, int directory,
                     const std::string& path) {
  if (Status status = driver.check_device(context->device()); !status) return status;
  const auto current = CurrentContext::enter(*context);
  Status status = current ? test(driver, context, directory, path) : current.status();
  if (status) return status;
  return Status(status.code(), "direct transfers between " + path + " and " + context->device().name + " (device " +
                                   std::to_string(context->device().ordinal) +
                                   ") were tried and do not work: " + status.message());
}

}  // namespace kvtier
