// Events that mark, layer by layer, when the blocks of one transfer are in a GPU's memory, for the engine's streams to
// wait for. Recorded once, by whoever queues the copies; the addresses may be asked for from any thread before and
// after. They keep the GPU's context, and nothing else of it: JavaScript may hold them long after the transfer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/status.h"
#include "transfer/device/device_link.h"

namespace kvtier {

class ReadyEvents {
 public:
  // `layers` events for each of the GPUs.
  [[nodiscard]] static Result<std::shared_ptr<ReadyEvents>> make(std::span<const std::shared_ptr<DeviceLink>> links,
                                                                 std::uint32_t layers);

  // GPU after GPU, one a layer.
  [[nodiscard]] const std::vector<CudaEvent>& events() const noexcept { return events_; }
  // Whether they are of these GPUs, with an event a layer.
  [[nodiscard]] bool fits(std::span<const std::shared_ptr<DeviceLink>> links, std::uint32_t layers) const noexcept;

  // Whoever queues the only operation of a transfer records its layers while it holds the stream.
  [[nodiscard]] Status record(std::size_t gpu, std::uint32_t layer, cuda::Stream stream);
  // All that is queued is: records what record() has not. The transfer's target still has its links.
  [[nodiscard]] Status record_rest();

 private:
  ReadyEvents() = default;

  std::vector<std::weak_ptr<DeviceLink>> links_;
  std::uint32_t layers_ = 0;
  std::vector<CudaEvent> events_;
  std::vector<bool> recorded_;
};

}  // namespace kvtier
