// A point in somebody's work on a GPU that transfers wait for, in the GPU's own queues: captured when the fence is
// made, so that the event or stream that it was taken from may be used for other things, or go, right afterwards. Any
// thread.
#pragma once

#include <memory>

#include "core/status.h"
#include "transfer/device/device_link.h"

namespace kvtier {

class Fence {
 public:
  // What is queued in the stream now.
  [[nodiscard]] static Result<std::shared_ptr<const Fence>> after_stream(DeviceLink& link, cuda::Stream stream);
  // What the event marks now; an event that was never recorded marks nothing.
  [[nodiscard]] static Result<std::shared_ptr<const Fence>> after_event(DeviceLink& link, cuda::Event event);
  // The same for an event of another process.
  [[nodiscard]] static Result<std::shared_ptr<const Fence>> after_ipc(DeviceLink& link,
                                                                      const cuda::IpcEventHandle& handle);

  [[nodiscard]] cuda::Event event() const noexcept { return event_.handle(); }
  // Whether the point has passed; the status of work that failed before it. The calling thread is one of kvtier's own.
  [[nodiscard]] Result<bool> is_passed() const;

 private:
  [[nodiscard]] static std::shared_ptr<const Fence> make(CudaEvent event);
  explicit Fence(CudaEvent event) : event_(std::move(event)) {}

  CudaEvent event_;
};

}  // namespace kvtier
