#include "transfer/device/ready_events.h"

#include <algorithm>
#include <utility>

namespace kvtier {

Result<std::shared_ptr<ReadyEvents>> ReadyEvents::make(std::span<const std::shared_ptr<DeviceLink>> links,
                                                       std::uint32_t layers) {
  std::shared_ptr<ReadyEvents> ready(new ReadyEvents());
  ready->links_.assign(links.begin(), links.end());
  ready->layers_ = layers;
  ready->events_.reserve(links.size() * layers);
  for (const std::shared_ptr<DeviceLink>& link : links) {
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      Result<CudaEvent> event = CudaEvent::create(link->context());
      if (!event.is_ok()) return event.status();
      ready->events_.push_back(std::move(event).value());
    }
  }
  ready->recorded_.assign(ready->events_.size(), false);
  return ready;
}

bool ReadyEvents::fits(std::span<const std::shared_ptr<DeviceLink>> links, std::uint32_t layers) const noexcept {
  return layers_ == layers && std::equal(links_.begin(), links_.end(), links.begin(), links.end(),
                                         [](const auto& weak, const auto& link) { return weak.lock() == link; });
}

Status ReadyEvents::record(std::size_t gpu, std::uint32_t layer, cuda::Stream stream) {
  const std::size_t index = gpu * layers_ + layer;
  KVTIER_CHECK(index < events_.size() && !recorded_[index]);
  recorded_[index] = true;
  return events_[index].record(stream);
}

Status ReadyEvents::record_rest() {
  for (std::size_t gpu = 0; gpu < links_.size(); ++gpu) {
    const std::shared_ptr<DeviceLink> link = links_[gpu].lock();
    KVTIER_CHECK(link != nullptr);
    if (Status status = link->enter(); !status.is_ok()) return status;
    DeviceLink::Lane& lane = link->lane(true);
    const std::lock_guard guard(lane.mutex);
    for (std::uint32_t layer = 0; layer < layers_; ++layer) {
      if (recorded_[gpu * layers_ + layer]) continue;
      if (Status status = record(gpu, layer, lane.stream.handle()); !status.is_ok()) return status;
    }
  }
  return Status::ok();
}

}  // namespace kvtier
