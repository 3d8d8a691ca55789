// A storage as the engine shares it: every batch and task that uses it holds it, and it is closed once, when nothing
// does. Made by EngineClient::adopt; the storage itself may be used from any thread while `users` is not 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "layout/slot_layout.h"
#include "platform/cufile/cufile_buffer.h"
#include "storage/storage.h"
#include "transfer/device/device_link.h"
#include "transfer/device/direct_choice.h"

namespace kvtier {

class SharedStorage {
 public:
  // `keeps` is let go after the storage, for example the lock of its directory.
  [[nodiscard]] static Result<std::shared_ptr<SharedStorage>> make(std::uint64_t id, std::unique_ptr<Storage> storage,
                                                                   std::shared_ptr<const void> keeps);
  // As destroy(), where nobody was left to call it: the environment has ended.
  ~SharedStorage() { destroy(); }
  SharedStorage(const SharedStorage&) = delete;
  SharedStorage& operator=(const SharedStorage&) = delete;

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  // A copy, so that it answers after closing too.
  [[nodiscard]] const StorageInfo& info() const noexcept { return info_; }
  [[nodiscard]] Storage& storage() const noexcept { return *storage_; }

  // Where read_run() and write_run() may use a slot's own memory; nullptr where the bytes must pass a staging buffer.
  [[nodiscard]] std::byte* slot_in_place(std::uint32_t slot) const noexcept {
    return in_place_base_ == nullptr ? nullptr : in_place_base_ + std::size_t{slot} * info_.slot_stride;
  }
  // A view of a staging buffer as slots of this storage's shape; for storages that are persistent or on a device.
  [[nodiscard]] const SlotLayout& staging_layout() const noexcept { return *staging_layout_; }

  // On a device: one for each of the storage's device_parts().
  [[nodiscard]] std::span<const std::shared_ptr<DeviceLink>> links() const noexcept { return links_; }

  // Whether the storage is such that enable_direct() may succeed: on one device, contiguous, and with kernels there
  // that verify. Else kUnsupported and why.
  [[nodiscard]] Status check_direct() const;
  // Registers the memory with cuFile, so that slabs with direct_device move blocks to and from it. Before transfers
  // that would; again, and by several threads, without harm. Fails as check_direct() and as CufileBuffer does.
  [[nodiscard]] Status enable_direct(const CufileDriver& driver);
  // Where a slot is for that; nothing before.
  [[nodiscard]] std::optional<DevicePayload> direct_payload(std::uint32_t slot) const noexcept;

  // A slab with direct_device: which loads into memory of that GPU go directly; without this none does. Before anybody
  // uses the storage.
  void choose_direct(const std::shared_ptr<DeviceLink>& link, const DirectChoice& choice) noexcept;
  [[nodiscard]] bool loads_directly(const std::shared_ptr<DeviceLink>& link, DirectLoad load) const noexcept;

  // Destroys the storage and lets go of what it kept. Precondition: nobody uses it and nobody will.
  void destroy() noexcept;

  // Guarded by the engine's mutex.
  struct Use {
    std::uint32_t users = 0;     // batches, tasks and windows
    bool closing = false;        // nobody may begin to use it
    bool reports_close = false;  // close_ticket waits for the end
    std::uint32_t close_ticket = 0;
  };
  Use use;

 private:
  SharedStorage() = default;
  std::uint64_t id_ = 0;
  StorageInfo info_;
  std::byte* in_place_base_ = nullptr;
  std::optional<SlotLayout> staging_layout_;
  std::vector<std::shared_ptr<DeviceLink>> links_;
  std::mutex direct_mutex_;  // guards the making of direct_, which does not change afterwards
  std::optional<CufileBuffer> direct_;
  std::weak_ptr<DeviceLink> direct_link_;  // the GPU that direct_choice_ is about
  DirectChoice direct_choice_ = kNeverDirect;
  std::shared_ptr<const void> keeps_;
  std::unique_ptr<Storage> storage_;
};

}  // namespace kvtier
