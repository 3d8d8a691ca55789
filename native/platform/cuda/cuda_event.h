// An event of a device: a mark in a stream that tells when the work before it has run. Making and destroying: any
// thread. Its calls: a thread whose current context is the event's.
#pragma once

#include <memory>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"

namespace kvtier {

struct CudaEventOptions {
  bool timing = false;             // elapsed time can be asked for; slower to record
  bool blocking_sync = true;       // synchronize() sleeps; else it spins on a core
  bool between_processes = false;  // can be handed to another process; excludes timing
};

// Destroying it does not wait; streams that wait for it go on waiting.
class CudaEvent {
 public:
  [[nodiscard]] static Result<CudaEvent> create(std::shared_ptr<const CudaContext> context,
                                                const CudaEventOptions& options = {});

  CudaEvent(CudaEvent&& other) noexcept;
  CudaEvent& operator=(CudaEvent&& other) noexcept;
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  ~CudaEvent();

  [[nodiscard]] cuda::Event handle() const noexcept { return handle_; }
  [[nodiscard]] const CudaContext& context() const noexcept { return *context_; }

  // Marks the end of what is queued in the stream now; what it marked before is forgotten.
  [[nodiscard]] Status record(cuda::Stream stream) const;
  // Whether the work before the mark has run; true for an event that was never recorded. A failure of that work, or of
  // anything else on the device, is the status.
  [[nodiscard]] Result<bool> is_done() const;
  // Waits for it.
  [[nodiscard]] Status synchronize() const;

 private:
  CudaEvent(std::shared_ptr<const CudaContext> context, cuda::Event handle) noexcept;
  void destroy() noexcept;

  std::shared_ptr<const CudaContext> context_;
  cuda::Event handle_;  // nullptr after a move
};

}  // namespace kvtier
