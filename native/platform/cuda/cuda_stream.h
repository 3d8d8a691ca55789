// A stream of a device: work in the order in which it was queued, beside all other streams. Making and destroying: any
// thread. Its calls: a thread whose current context is the stream's.
#pragma once

#include <cstdint>
#include <memory>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"

namespace kvtier {

enum class CudaStreamPriority : std::uint8_t {
  kNormal,  // the device's lowest, which streams have by default
  kHigh,    // the device's highest: before others, what runs is not interrupted
};

// Non-blocking: it does not wait for the stream that programs use without naming one. Destroying it does not wait for
// what is queued; that still runs.
class CudaStream {
 public:
  [[nodiscard]] static Result<CudaStream> create(std::shared_ptr<const CudaContext> context,
                                                 CudaStreamPriority priority);

  CudaStream(CudaStream&& other) noexcept;
  CudaStream& operator=(CudaStream&& other) noexcept;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream();

  [[nodiscard]] cuda::Stream handle() const noexcept { return handle_; }
  [[nodiscard]] const CudaContext& context() const noexcept { return *context_; }

  // What is queued from now on waits for the event, also one of another device or process; the caller does not.
  [[nodiscard]] Status wait_for(cuda::Event event) const;
  // Waits until all that is queued has run; the status is the first failure among it.
  [[nodiscard]] Status synchronize() const;

 private:
  CudaStream(std::shared_ptr<const CudaContext> context, cuda::Stream handle) noexcept;
  void destroy() noexcept;

  std::shared_ptr<const CudaContext> context_;
  cuda::Stream handle_;  // nullptr after a move
};

}  // namespace kvtier
