// One GPU as the engine uses it: a stream a direction, the copier, staging buffers, spare events, and whether it was
// lost. One a process
// and GPU, shared by all who have memory there. Any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"
#include "platform/cuda/cuda_event.h"
#include "platform/cuda/cuda_stream.h"
#include "transfer/device/calibrate.h"
#include "transfer/device/copier.h"
#include "transfer/device/device_verifier.h"
#include "transfer/device/host_staging.h"

namespace kvtier {

class DeviceLink {
 public:
  // The process's one for this GPU, made by the first call. Fails as streams, events and the copier do.
  [[nodiscard]] static Result<std::shared_ptr<DeviceLink>> get(const std::shared_ptr<const CudaContext>& context);

  DeviceLink(const DeviceLink&) = delete;
  DeviceLink& operator=(const DeviceLink&) = delete;
  ~DeviceLink() = default;

  // A direction's stream. Whoever queues holds the mutex from its first wait to its last event, so that what it queues
  // stays together.
  struct Lane {
    std::mutex mutex;
    CudaStream stream;
  };

  [[nodiscard]] const std::shared_ptr<const CudaContext>& context() const noexcept { return context_; }
  [[nodiscard]] Lane& lane(bool to_device) noexcept { return to_device ? to_device_ : from_device_; }
  [[nodiscard]] Copier& copier() const noexcept { return *copier_; }

  // Empty until somebody makes room there.
  [[nodiscard]] HostStaging& host_staging() noexcept { return host_staging_; }

  // null where the GPU has no kernels to verify with.
  [[nodiscard]] DeviceVerifier* verifier() const noexcept { return verifier_.get(); }

  // Makes the GPU's context the calling thread's, which is one of kvtier's own. Fails with kDeviceLost for a lost GPU.
  [[nodiscard]] Status enter() const;
  // An event without timing; give it back when it has come.
  [[nodiscard]] Result<CudaEvent> take_event();
  void give_back(CudaEvent&& event) noexcept;
  // Calls `use` with a stream that has nothing queued, or little: for short work whose order with other work does not
  // matter. The calling thread's current context is the GPU's.
  [[nodiscard]] Status with_side_stream(const std::function<Status(const CudaStream&)>& use);

  // Measures the copier on the calling thread, in less than a second; what others queue waits meanwhile.
  [[nodiscard]] Result<CopyFigures> measure();

  // Remembers that a status says that the GPU is lost: it is, for the rest of the process.
  void note(const Status& status) noexcept;
  [[nodiscard]] bool is_lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

 private:
  DeviceLink(std::shared_ptr<const CudaContext> context, CudaStream to_device, CudaStream from_device,
             std::unique_ptr<Copier> copier, std::unique_ptr<DeviceVerifier> verifier);

  const std::shared_ptr<const CudaContext> context_;
  std::atomic<bool> lost_{false};
  std::mutex mutex_;  // guards the three below
  std::vector<CudaEvent> events_;
  std::vector<CudaStream> side_streams_;
  std::size_t next_side_stream_ = 0;
  HostStaging host_staging_;
  const std::unique_ptr<Copier> copier_;
  const std::unique_ptr<DeviceVerifier> verifier_;  // uses the copier's kernels
  Lane to_device_;
  Lane from_device_;
};

}  // namespace kvtier
