// Slots in memory that the CPU can address: host memory (G2), and device memory of kind `host` (G1 on machines without
// a GPU, laid out as a GPU's would be), owned or borrowed. Bytes may be used from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/device/pinned_memory.h"
#include "memory/host_buffer.h"
#include "storage/storage.h"

namespace kvtier {

class MemoryStorage final : public Storage {
 public:
  // Allocates the regions of `kind` for `slot_count` slots, and their checksums. Fails: kInvalidValue, kOutOfMemory.
  [[nodiscard]] static Result<std::unique_ptr<MemoryStorage>> allocate(LayoutKind kind, const GroupShape& shape,
                                                                       std::uint32_t slot_count,
                                                                       const HostBufferOptions& options);
  // The same, registered with the driver of the context's device as PinnedMemory does: a first part at once, the rest
  // in the background, by which it is touched as well. Checksums are not registered. `kind` is kContiguous, for slots
  // are what parts consist of. Fails as allocate() and PinnedMemory::make() do.
  [[nodiscard]] static Result<std::unique_ptr<MemoryStorage>> allocate_pinned(
      LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count, std::shared_ptr<const CudaContext> context,
      const PinnedOptions& options = {});
  // Borrows regions of the caller, who keeps them alive and in place until the storage is gone. Fails with
  // kInvalidValue when their number or sizes are not what the layout needs, and with kOutOfMemory.
  [[nodiscard]] static Result<std::unique_ptr<MemoryStorage>> borrow(LayoutKind kind, const GroupShape& shape,
                                                                     std::uint32_t slot_count,
                                                                     std::span<const std::span<std::byte>> regions);

  [[nodiscard]] const StorageInfo& info() const noexcept override { return info_; }
  [[nodiscard]] SlotView view() const noexcept override { return {layout_.get(), regions_.data()}; }
  [[nodiscard]] std::shared_ptr<HostBuffer> share_memory() const noexcept override { return owned_; }
  [[nodiscard]] const PinnedMemory* pinned() const noexcept override { return pinned_.get(); }
  [[nodiscard]] Checksum checksum_at(std::uint32_t slot) const noexcept override;
  void set_checksum(std::uint32_t slot, const Checksum& checksum) noexcept override;

 private:
  explicit MemoryStorage(SlotLayout layout);
  void own(HostBuffer buffer, std::span<const std::uint64_t> offsets);

  StorageInfo info_;
  std::unique_ptr<SlotLayout> layout_;
  std::shared_ptr<HostBuffer> owned_;  // regions and checksums; null when the regions are borrowed
  HostBuffer checksum_memory_;         // of borrowed regions
  std::vector<std::byte*> regions_;
  std::span<Checksum> checksums_;  // one a slot
  // Unregisters when the storage goes, also where the memory is shared and stays.
  std::unique_ptr<PinnedMemory> pinned_;
};

}  // namespace kvtier
