// Queues one operation's copies on every GPU that has a part of its blocks: waits first, copies, and a mark behind
// them. An engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transfer/device/copy_rects.h"
#include "transfer/device/device_op.h"
#include "transfer/device/ready_events.h"
#include "transfer/shared_storage.h"

namespace kvtier {

// The host side of a copy: contiguous slots, and how they are registered.
struct HostSide {
  std::byte* base = nullptr;
  std::uint64_t stride = 0;
  const PinnedMemory* pinned = nullptr;  // null: copied through the driver's buffers, unless the next says otherwise
  PinnedPart whole = {};                 // of slot 0; registered: all slots lie in this part

  [[nodiscard]] PinnedPart part_of(std::uint32_t slot) const noexcept;
};

struct QueueRequest {
  const SharedStorage& device;
  HostSide host;
  std::span<const SlotPair> pairs;
  bool to_device = false;
  std::span<const std::shared_ptr<const Fence>> after;
  ReadyEvents* ready = nullptr;  // copies go a layer at a time, and these are recorded behind each
};

// Adds marks to `op` for what was queued, also after a failure: whoever waits for them knows that no copy of the
// operation runs any more.
[[nodiscard]] Status queue_copies(const QueueRequest& request, DeviceOp& op);

// The same between two storages on GPUs; `pairs` are (target slot, source slot).
[[nodiscard]] Status queue_device_copies(const SharedStorage& source, const SharedStorage& target,
                                         std::span<const SlotPair> pairs,
                                         std::span<const std::shared_ptr<const Fence>> after, DeviceOp& op);

// Whether copies between these host slots and a GPU are the GPU's own, so that queuing them waits for nothing.
[[nodiscard]] bool are_registered(const PinnedMemory* pinned, std::span<const SlotPair> pairs) noexcept;

}  // namespace kvtier
