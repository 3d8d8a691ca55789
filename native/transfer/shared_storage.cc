#include "transfer/shared_storage.h"

#include <utility>

#include "transfer/plan.h"

namespace kvtier {
namespace {

constexpr std::uintptr_t kDiskAlignment = 4096;

// The first slot's address when every slot is one aligned run of slot_stride bytes, as disk operations need.
std::byte* in_place_base_of(const Storage& storage) noexcept {
  const StorageInfo& info = storage.info();
  if (!info.host_addressable) return nullptr;
  const SlotView view = storage.view();
  const std::span<const Fragment> fragments = view.layout->fragments();
  if (view.layout->kind() != LayoutKind::kContiguous || fragments.size() != 1) return nullptr;
  if (fragments[0].step != info.slot_stride || info.slot_stride % kDiskAlignment != 0) return nullptr;
  if (view.layout->region_bytes()[0] < info.slot_stride * info.slot_count) return nullptr;
  std::byte* base = view.regions[0] + fragments[0].offset;
  return reinterpret_cast<std::uintptr_t>(base) % kDiskAlignment == 0 ? base : nullptr;
}

}  // namespace

Result<std::shared_ptr<SharedStorage>> SharedStorage::make(std::uint64_t id, std::unique_ptr<Storage> storage,
                                                           std::shared_ptr<const void> keeps) {
  std::shared_ptr<SharedStorage> shared(new SharedStorage());
  shared->id_ = id;
  shared->info_ = storage->info();
  shared->in_place_base_ = in_place_base_of(*storage);
  for (const DevicePart& part : storage->device_parts()) {
    Result<std::shared_ptr<DeviceLink>> link = DeviceLink::get(part.context);
    if (!link.is_ok()) return link.status();
    shared->links_.push_back(std::move(link).value());
  }
  if (shared->info_.persistent || shared->info_.on_device) {
    Result<SlotLayout> layout =
        SlotLayout::make(LayoutKind::kContiguous, shared->info_.shape, run_blocks(shared->info_.shape.slot_stride()));
    if (!layout.is_ok()) return layout.status();
    shared->staging_layout_ = std::move(layout).value();
  }
  shared->keeps_ = std::move(keeps);
  shared->storage_ = std::move(storage);
  return shared;
}

void SharedStorage::destroy() noexcept {
  in_place_base_ = nullptr;
  storage_.reset();
  keeps_.reset();
  links_.clear();
}

}  // namespace kvtier
