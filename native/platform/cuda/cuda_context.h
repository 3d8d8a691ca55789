// A device's primary context, the one that every framework in the process shares, and making it a thread's current one.
// CudaContext: any thread. CurrentContext: made and destroyed on one thread.
#pragma once

#include <memory>

#include "core/status.h"
#include "platform/cuda/cuda_driver.h"

namespace kvtier {

// A hold on a device's primary context. Streams and events share it, so that it outlives them. The driver keeps the
// context while anyone in the process holds it; the first hold makes it, which takes a moment and some device memory.
class CudaContext {
 public:
  // kUnsupported where the driver is not ready, kInvalidValue for an ordinal that has no device.
  [[nodiscard]] static Result<std::shared_ptr<const CudaContext>> retain(const CudaDriver& driver, int ordinal);

  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;
  ~CudaContext();

  [[nodiscard]] const CudaDriver& driver() const noexcept { return driver_; }
  [[nodiscard]] const cuda::Functions& functions() const noexcept { return driver_.functions(); }
  [[nodiscard]] const CudaDevice& device() const noexcept { return device_; }
  [[nodiscard]] cuda::Context handle() const noexcept { return handle_; }

  // Makes it the calling thread's current context for good: for threads of kvtier's own, which call the driver often.
  [[nodiscard]] Status make_current() const;

 private:
  CudaContext(const CudaDriver& driver, const CudaDevice& device, cuda::Context handle) noexcept
      : driver_(driver), device_(device), handle_(handle) {}

  const CudaDriver& driver_;
  const CudaDevice& device_;
  const cuda::Context handle_;
};

// Makes a context the calling thread's current one, and the former one current again at the end of the scope: for
// threads that belong to somebody else.
class CurrentContext {
 public:
  [[nodiscard]] static Result<CurrentContext> enter(const CudaContext& context);

  CurrentContext(CurrentContext&& other) noexcept;
  CurrentContext& operator=(CurrentContext&&) = delete;
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  ~CurrentContext();

 private:
  CurrentContext(const cuda::Functions* functions, cuda::Context former) noexcept
      : functions_(functions), former_(former) {}

  const cuda::Functions* functions_;  // nullptr: nothing to restore
  cuda::Context former_;
};

}  // namespace kvtier
