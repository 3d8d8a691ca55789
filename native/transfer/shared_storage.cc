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

Status SharedStorage::check_direct() const {
  const std::span<const DevicePart> parts = storage_->device_parts();
  const std::uint64_t stride = info_.shape.slot_stride();
  if (parts.size() != 1 || parts[0].layout->kind() != LayoutKind::kContiguous ||
      parts[0].layout->fragments().size() != 1 || parts[0].layout->fragments()[0].step != stride) {
    return Status(Code::kUnsupported,
                  "blocks go directly between a disk and device memory only where each is contiguous, on one device");
  }
  if (links_.front()->verifier() == nullptr) {
    return Status(Code::kUnsupported, "no kernel of kvtier's runs on this device, so nothing could verify what comes");
  }
  if (parts[0].regions[0] % kCufileAlignment != 0) {
    return Status(Code::kUnsupported,
                  "device memory that does not begin at a multiple of 4 KiB takes no direct transfers");
  }
  return Status::ok();
}

Status SharedStorage::enable_direct(const CufileDriver& driver) {
  if (Status status = check_direct(); !status.is_ok()) return status;
  const DevicePart& part = storage_->device_parts()[0];
  // Two slabs that open at the same time may both ask for it.
  const std::lock_guard guard(direct_mutex_);
  if (direct_) {
    if (&direct_->driver() == &driver) return Status::ok();
    return Status(Code::kUnsupported, "the device memory takes direct transfers by another cuFile already");
  }
  auto buffer = CufileBuffer::register_range(driver, part.context, part.regions[0], part.layout->region_bytes()[0]);
  if (!buffer.is_ok()) return buffer.status();
  direct_.emplace(std::move(buffer).value());
  return Status::ok();
}

std::optional<DevicePayload> SharedStorage::direct_payload(std::uint32_t slot) const noexcept {
  if (!direct_) return std::nullopt;
  const std::uint64_t first = storage_->device_parts()[0].regions[0];
  return DevicePayload{&*direct_, first - direct_->base() + info_.shape.slot_stride() * slot};
}

void SharedStorage::choose_direct(const std::shared_ptr<DeviceLink>& link, const DirectChoice& choice) noexcept {
  direct_link_ = link;
  direct_choice_ = choice;
}

bool SharedStorage::loads_directly(const std::shared_ptr<DeviceLink>& link, DirectLoad load) const noexcept {
  const bool is_that_one = !direct_link_.owner_before(link) && !link.owner_before(direct_link_);
  return info_.direct_device && is_that_one && direct_choice_[static_cast<std::size_t>(load)];
}

// The storage goes after the registration of its memory, and before what it stands on.
void SharedStorage::destroy() noexcept {
  // Memory that stays registered must stay: a disk's transfer may still go there.
  if (direct_ && !direct_->release().is_ok()) static_cast<void>(storage_.release());
  direct_.reset();
  in_place_base_ = nullptr;
  storage_.reset();
  keeps_.reset();
  links_.clear();
}

}  // namespace kvtier
