#include "platform/cuda/cuda_context.h"

#include <string>
#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

std::string on_device(const char* function, int ordinal) {
  return std::string(function) + " on device " + std::to_string(ordinal);
}

}  // namespace

Result<std::shared_ptr<const CudaContext>> CudaContext::retain(const CudaDriver& driver, int ordinal) {
  const auto found = driver.device(ordinal);
  if (!found) return found.status();
  const CudaDevice& device = *found.value();
  const cuda::Functions& functions = driver.functions();
  cuda::Context handle = nullptr;
  const cuda::Error error = functions.device_primary_ctx_retain(&handle, device.handle);
  if (error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, on_device("cuDevicePrimaryCtxRetain", ordinal));
  }
  return std::shared_ptr<const CudaContext>(new CudaContext(driver, device, handle));
}

CudaContext::~CudaContext() {
  // Fails when the driver has been shut down with the process, or the device was lost: there is nothing to do then.
  static_cast<void>(functions().device_primary_ctx_release(device_.handle));
}

Status CudaContext::make_current() const {
  const cuda::Error error = functions().ctx_set_current(handle_);
  if (error == cuda::Error::kSuccess) return Status::ok();
  return cuda::to_status(functions(), error, on_device("cuCtxSetCurrent", device_.ordinal));
}

Result<CurrentContext> CurrentContext::enter(const CudaContext& context) {
  const cuda::Functions& functions = context.functions();
  cuda::Context former = nullptr;
  if (const cuda::Error error = functions.ctx_get_current(&former); error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, on_device("cuCtxGetCurrent", context.device().ordinal));
  }
  if (former == context.handle()) return CurrentContext(nullptr, nullptr);
  if (Status status = context.make_current(); !status) return status;
  return CurrentContext(&functions, former);
}

CurrentContext::CurrentContext(CurrentContext&& other) noexcept
    : functions_(std::exchange(other.functions_, nullptr)), former_(other.former_) {}

CurrentContext::~CurrentContext() {
  if (functions_ != nullptr) static_cast<void>(functions_->ctx_set_current(former_));
}

}  // namespace kvtier
