#include "platform/cuda/cuda_event.h"

#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {

Result<CudaEvent> CudaEvent::create(std::shared_ptr<const CudaContext> context, const CudaEventOptions& options) {
  const cuda::Functions& functions = context->functions();
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  const unsigned flags = (options.timing ? 0U : cuda::kEventDisableTiming) |
                         (options.blocking_sync ? cuda::kEventBlockingSync : 0U) |
                         (options.between_processes ? cuda::kEventInterprocess : 0U);
  cuda::Event handle = nullptr;
  if (const cuda::Error error = functions.event_create(&handle, flags); error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuEventCreate");
  }
  return CudaEvent(std::move(context), handle);
}

CudaEvent::CudaEvent(std::shared_ptr<const CudaContext> context, cuda::Event handle) noexcept
    : context_(std::move(context)), handle_(handle) {}

CudaEvent::CudaEvent(CudaEvent&& other) noexcept
    : context_(std::move(other.context_)), handle_(std::exchange(other.handle_, nullptr)) {}

CudaEvent& CudaEvent::operator=(CudaEvent&& other) noexcept {
  if (this == &other) return *this;
  destroy();
  context_ = std::move(other.context_);
  handle_ = std::exchange(other.handle_, nullptr);
  return *this;
}

CudaEvent::~CudaEvent() {
  destroy();
}

void CudaEvent::destroy() noexcept {
  if (handle_ == nullptr) return;
  // A lost device fails both; the driver has then freed the event with the context.
  const auto current = CurrentContext::enter(*context_);
  static_cast<void>(context_->functions().event_destroy(std::exchange(handle_, nullptr)));
}

Status CudaEvent::record(cuda::Stream stream) const {
  const cuda::Functions& functions = context_->functions();
  return cuda::to_status(functions, functions.event_record(handle_, stream), "cuEventRecord");
}

Result<bool> CudaEvent::is_done() const {
  const cuda::Functions& functions = context_->functions();
  const cuda::Error error = functions.event_query(handle_);
  if (error == cuda::Error::kSuccess) return true;
  if (error == cuda::Error::kNotReady) return false;
  return cuda::to_status(functions, error, "cuEventQuery");
}

Status CudaEvent::synchronize() const {
  const cuda::Functions& functions = context_->functions();
  return cuda::to_status(functions, functions.event_synchronize(handle_), "cuEventSynchronize");
}

}  // namespace kvtier
