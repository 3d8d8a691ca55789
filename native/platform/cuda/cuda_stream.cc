#include "platform/cuda/cuda_stream.h"

#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {

Result<CudaStream> CudaStream::create(std::shared_ptr<const CudaContext> context, CudaStreamPriority priority) {
  const cuda::Functions& functions = context->functions();
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  int least = 0;
  int greatest = 0;
  if (const cuda::Error error = functions.ctx_get_stream_priority_range(&least, &greatest);
      error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuCtxGetStreamPriorityRange");
  }
  cuda::Stream handle = nullptr;
  const int chosen = priority == CudaStreamPriority::kHigh ? greatest : least;
  if (const cuda::Error error = functions.stream_create_with_priority(&handle, cuda::kStreamNonBlocking, chosen);
      error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuStreamCreateWithPriority");
  }
  return CudaStream(std::move(context), handle);
}

CudaStream::CudaStream(std::shared_ptr<const CudaContext> context, cuda::Stream handle) noexcept
    : context_(std::move(context)), handle_(handle) {}

CudaStream::CudaStream(CudaStream&& other) noexcept
    : context_(std::move(other.context_)), handle_(std::exchange(other.handle_, nullptr)) {}

CudaStream& CudaStream::operator=(CudaStream&& other) noexcept {
  if (this == &other) return *this;
  destroy();
  context_ = std::move(other.context_);
  handle_ = std::exchange(other.handle_, nullptr);
  return *this;
}

CudaStream::~CudaStream() {
  destroy();
}

void CudaStream::destroy() noexcept {
  if (handle_ == nullptr) return;
  // A lost device fails both; the driver has then freed the stream with the context.
  const auto current = CurrentContext::enter(*context_);
  static_cast<void>(context_->functions().stream_destroy(std::exchange(handle_, nullptr)));
}

Status CudaStream::wait_for(cuda::Event event) const {
  const cuda::Functions& functions = context_->functions();
  return cuda::to_status(functions, functions.stream_wait_event(handle_, event, 0), "cuStreamWaitEvent");
}

Status CudaStream::synchronize() const {
  const cuda::Functions& functions = context_->functions();
  return cuda::to_status(functions, functions.stream_synchronize(handle_), "cuStreamSynchronize");
}

}  // namespace kvtier
