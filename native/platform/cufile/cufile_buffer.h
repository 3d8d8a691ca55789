// Device memory that is registered with cuFile, so that devices move bytes to and from it directly. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"
#include "platform/cufile/cufile_driver.h"

namespace kvtier {

// cuFile's direct way takes addresses, offsets and lengths that are multiples of it.
inline constexpr std::uint64_t kCufileAlignment = 4096;

// A share of the registration of one allocation. Registering pins the whole allocation, which takes long and of which a
// device has a limited number; so it is done once for all who use memory of it, and undone with the last share. Whoever
// owns the memory has a share as long as transfers may use it, and lets it go before the memory is freed.
class CufileBuffer {
 public:
  // Allocations of a process that are registered at a time.
  static constexpr std::size_t kMostRegistrations = 512;

  // The registration of the allocation that the range lies in. Fails: kInvalidValue (not device memory of that
  // context's device, beyond its allocation, not aligned, or an allocation that was freed while it was registered),
  // kUnsupported (cuFile is not ready, or cannot reach the device's memory), kOutOfMemory (it cannot be pinned, or too
  // much is), kDeviceLost, kIo.
  [[nodiscard]] static Result<CufileBuffer> register_range(const CufileDriver& driver,
                                                           std::shared_ptr<const CudaContext> context,
                                                           cuda::DevicePtr address, std::uint64_t size_bytes);

  CufileBuffer(CufileBuffer&& other) noexcept;
  CufileBuffer& operator=(CufileBuffer&& other) noexcept;
  CufileBuffer(const CufileBuffer&) = delete;
  CufileBuffer& operator=(const CufileBuffer&) = delete;
  // As release(). Precondition: no transfer uses the share.
  ~CufileBuffer();

  // Lets the share go. On failure the allocation is still registered and must not be freed: the driver may wait for
  // ever or a device write to memory that is another's. The next share of the allocation takes the registration over.
  [[nodiscard]] Status release() noexcept;

  // Of the allocation: transfers name an offset from its start.
  [[nodiscard]] cuda::DevicePtr base() const noexcept { return registration_->base; }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return registration_->size_bytes; }
  [[nodiscard]] const CudaContext& context() const noexcept { return *registration_->context; }
  [[nodiscard]] const CufileDriver& driver() const noexcept { return *registration_->driver; }

  // Whether the allocation is still the one that was registered: kInvalidValue when it was freed meanwhile.
  [[nodiscard]] Status check() const;

  // Allocations that are registered now, those included that could not be let go.
  [[nodiscard]] static std::size_t registered_count() noexcept;

 private:
  struct Registration {
    const CufileDriver* driver = nullptr;
    std::shared_ptr<const CudaContext> context;
    cuda::DevicePtr base = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t buffer_id = 0;  // the driver's number for this allocation, never given to another
    std::uint32_t shares = 0;
  };
  struct Registry;

  explicit CufileBuffer(Registration* registration) noexcept : registration_(registration) {}
  [[nodiscard]] static Result<Registration> find_allocation(const CufileDriver& driver,
                                                            std::shared_ptr<const CudaContext> context,
                                                            cuda::DevicePtr address, std::uint64_t size_bytes);
  [[nodiscard]] static Status deregister(const Registration& registration);

  Registration* registration_;  // nullptr after a move or a release; one that is found never changes
};

}  // namespace kvtier
