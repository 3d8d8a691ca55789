// Slots in the memory of one or several GPUs (G1): kvtier's own, or lent by an engine, of this process or another one.
// The CPU cannot read them; blocks move by the devices' copies. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/device/device_memory.h"
#include "storage/storage.h"

namespace kvtier {

class DeviceStorage final : public Storage {
 public:
  // Allocates the regions of `kind` for `slot_count` slots, on the device of the one context, or part by part on those
  // of `shape.parts` contexts. Fails: kInvalidValue, kOutOfMemory, kDeviceLost, kIo.
  [[nodiscard]] static Result<std::unique_ptr<DeviceStorage>> allocate(
      std::span<const std::shared_ptr<const CudaContext>> contexts, LayoutKind kind, const GroupShape& shape,
      std::uint32_t slot_count);
  // Takes regions that were lent, in the layout's order. Contiguous slots have one region, or one a part, each of which
  // holds contiguous slots of that part alone. The regions of one part lie on one device. Fails with kInvalidValue when
  // their number or sizes are not what the layout needs, or two overlap.
  [[nodiscard]] static Result<std::unique_ptr<DeviceStorage>> borrow(LayoutKind kind, const GroupShape& shape,
                                                                     std::uint32_t slot_count,
                                                                     std::vector<DeviceMemory> regions);
  // Gives owned memory back. Precondition: nothing that uses the memory is queued on a device.
  ~DeviceStorage() override = default;

  [[nodiscard]] const StorageInfo& info() const noexcept override { return info_; }
  // What holds the regions: one range a region where they were lent, one a device part else.
  [[nodiscard]] std::span<const DeviceMemory> memory() const noexcept { return memory_; }
  // One for each device where that has every part of a block, in canonical order; else one for each part.
  [[nodiscard]] std::span<const DevicePart> device_parts() const noexcept override { return parts_; }
  // Asks once for each allocation that regions lie in.
  [[nodiscard]] Status check_memory() const noexcept override;

 private:
  DeviceStorage(const GroupShape& shape, SlotLayout layout, std::size_t part_count);
  void add_part(std::shared_ptr<const CudaContext> context, std::size_t part);
  void find_lent();

  StorageInfo info_;
  std::unique_ptr<const SlotLayout> layout_;  // of each device part
  std::vector<DeviceMemory> memory_;
  std::vector<std::uint64_t> regions_;  // addresses, those of a device part side by side
  std::vector<DevicePart> parts_;
  std::vector<std::size_t> lent_;  // indices in memory_: one of each allocation that somebody else can free
};

}  // namespace kvtier
