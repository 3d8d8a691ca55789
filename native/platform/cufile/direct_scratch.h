// What testing and measuring direct transfers takes for a while: a file in the directory in question, which is
// registered with cuFile, and registered memory of the GPU in question. Any thread that may wait for the disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"
#include "platform/cuda/cuda_stream.h"
#include "platform/cufile/cufile_buffer.h"
#include "platform/cufile/cufile_driver.h"
#include "platform/cufile/cufile_handle.h"

namespace kvtier {

// The scratch file's name.
inline constexpr const char* kDirectTestFile = ".kvtier-direct-test";

// Device memory with a stream that fills and reads it. Precondition of all: the context is current.
class ScratchMemory {
 public:
  // 4 MiB at least, so that the driver gives it pages of its own, which is what cuFile can pin.
  [[nodiscard]] static Result<ScratchMemory> make(const std::shared_ptr<const CudaContext>& context,
                                                  std::uint64_t size_bytes);
  ScratchMemory(ScratchMemory&& other) noexcept;
  ScratchMemory& operator=(ScratchMemory&&) = delete;
  // What is still in use is left to the driver.
  ~ScratchMemory();

  [[nodiscard]] cuda::DevicePtr address() const noexcept { return address_; }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  // Something out of reach may use it for ever.
  void keep() noexcept { address_ = 0; }

  // Queues a copy of all of the bytes to that offset. They stay until settle().
  [[nodiscard]] Status queue_fill(std::uint64_t offset, std::span<const std::byte> source);
  // Waits for what was queued.
  [[nodiscard]] Status settle();
  [[nodiscard]] Status fill(std::uint64_t offset, std::span<const std::byte> source);
  [[nodiscard]] Status copy_to(std::uint64_t offset, std::span<std::byte> target);

 private:
  explicit ScratchMemory(CudaStream&& stream) : stream_(std::move(stream)) {}
  [[nodiscard]] Status note(cuda::Error error, const char* what);

  CudaStream stream_;
  cuda::DevicePtr address_ = 0;
  std::uint64_t size_bytes_ = 0;
  bool is_busy_ = false;
};

// What with_direct_scratch() lends.
struct DirectScratch {
  const CufileHandle& file;
  const std::string& path;     // the file's, for messages
  const CufileBuffer& buffer;  // all of the memory
  ScratchMemory& memory;
};

struct DirectScratchSizes {
  std::uint64_t file_bytes = 0;
  std::uint64_t device_bytes = 0;
};

// Makes a scratch file, reserved but not written, and device memory, registers both, runs `use` and takes everything
// away, also a file that a process left here which was killed. The status is that of `use`, or why it was not run, or
// what could not be taken away. `directory` is an open descriptor, `path` its name. Precondition: the context is
// current.
[[nodiscard]] Status with_direct_scratch(const CufileDriver& driver, const std::shared_ptr<const CudaContext>& context,
                                         int directory, const std::string& path, const DirectScratchSizes& sizes,
                                         const std::function<Status(const DirectScratch&)>& use);

// All of the bytes between host memory and the scratch file, by the system. Addresses, offsets and lengths are
// multiples of 4 KiB.
[[nodiscard]] Status read_scratch(const DirectScratch& scratch, std::uint64_t offset, std::span<std::byte> bytes);
[[nodiscard]] Status write_scratch(const DirectScratch& scratch, std::uint64_t offset, std::span<std::byte> bytes);

// Bytes that differ from place to place and from seed to seed; a length that is a multiple of 8.
void fill_random(std::span<std::byte> bytes, std::uint64_t seed) noexcept;

}  // namespace kvtier
