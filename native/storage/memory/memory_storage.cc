#include "storage/memory/memory_storage.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "core/checked_size.h"
#include "platform/system_memory.h"

namespace kvtier {
namespace {

// Regions of one allocation start on pages of their own.
constexpr std::uint64_t kRegionAlignment = 4096;

StorageInfo info_of(const SlotLayout& layout) noexcept {
  const GroupShape& shape = layout.shape();
  StorageInfo info;
  info.kind = "memory";
  info.shape = shape;
  info.slot_count = layout.slot_count();
  info.slot_stride = layout.kind() == LayoutKind::kContiguous ? shape.slot_stride() : shape.block_bytes();
  info.host_addressable = true;
  info.keeps_checksums = true;
  return info;
}

std::size_t checksum_bytes(std::uint32_t slot_count) noexcept {
  return std::size_t{slot_count} * sizeof(Checksum);
}

Status bad_regions(const std::string& why) {
  return Status(Code::kInvalidValue, "memory to borrow: " + why);
}

Status check_regions(const SlotLayout& layout, std::span<const std::span<std::byte>> regions) {
  const std::span<const std::uint64_t> needed = layout.region_bytes();
  if (regions.size() != needed.size()) {
    return bad_regions(std::to_string(regions.size()) + " regions were given, the layout has " +
                       std::to_string(needed.size()));
  }
  for (std::size_t i = 0; i < regions.size(); ++i) {
    if (regions[i].size() != needed[i]) {
      return bad_regions("region " + std::to_string(i) + " has " + std::to_string(regions[i].size()) +
                         " bytes, the layout needs exactly " + std::to_string(needed[i]));
    }
  }
  // Two regions over the same bytes would make slots overwrite each other.
  std::vector<std::span<std::byte>> sorted(regions.begin(), regions.end());
  std::ranges::sort(sorted, {}, [](const std::span<std::byte>& region) { return region.data(); });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].data() < sorted[i - 1].data() + sorted[i - 1].size()) return bad_regions("two regions overlap");
  }
  return Status::ok();
}

// Where in one allocation the regions begin and, last, the checksums; and how large it is. One allocation, so that what
// is free is compared with all of it.
struct Plan {
  std::vector<std::uint64_t> offsets;
  std::uint64_t size_bytes = 0;
};

Result<Plan> plan_of(const SlotLayout& layout) {
  std::vector<std::uint64_t> sizes(layout.region_bytes().begin(), layout.region_bytes().end());
  sizes.push_back(checksum_bytes(layout.slot_count()));
  Plan plan;
  std::optional<std::uint64_t> total = 0;
  for (const std::uint64_t bytes : sizes) {
    const auto start = checked_round_up(*total, kRegionAlignment);
    total = start ? checked_sum(*start, bytes) : std::nullopt;
    if (!total) {
      return Status(Code::kOutOfMemory, std::to_string(layout.slot_count()) + " slots of " + describe(layout.shape()) +
                                            " were asked for: more than an address space holds");
    }
    plan.offsets.push_back(*start);
  }
  plan.size_bytes = *total;
  return plan;
}

}  // namespace

Result<std::unique_ptr<MemoryStorage>> MemoryStorage::allocate(LayoutKind kind, const GroupShape& shape,
                                                               std::uint32_t slot_count,
                                                               const HostBufferOptions& options) {
  auto layout = SlotLayout::make(kind, shape, slot_count);
  if (!layout.is_ok()) return layout.status();
  const auto plan = plan_of(layout.value());
  if (!plan.is_ok()) return plan.status();
  auto buffer = HostBuffer::allocate(plan.value().size_bytes, options);
  if (!buffer.is_ok()) return buffer.status();

  auto storage = std::unique_ptr<MemoryStorage>(new MemoryStorage(std::move(layout).value()));
  storage->own(std::move(buffer).value(), plan.value().offsets);
  return storage;
}

Result<std::unique_ptr<MemoryStorage>> MemoryStorage::allocate_pinned(LayoutKind kind, const GroupShape& shape,
                                                                      std::uint32_t slot_count,
                                                                      std::shared_ptr<const CudaContext> context,
                                                                      const PinnedOptions& options) {
  if (kind != LayoutKind::kContiguous) {
    return Status(Code::kInvalidValue, "pinned memory with a region a layer was asked for; its slots are contiguous");
  }
  auto layout = SlotLayout::make(kind, shape, slot_count);
  if (!layout.is_ok()) return layout.status();
  const auto plan = plan_of(layout.value());
  if (!plan.is_ok()) return plan.status();
  // The parts ask again, each for itself; this is for all of them.
  const std::uint64_t size_bytes = plan.value().size_bytes;
  if (Status status = check_room(size_bytes, system_memory().available_bytes); !status.is_ok()) return status;
  auto buffer = HostBuffer::allocate(size_bytes, {.prefault = false});
  if (!buffer.is_ok()) return buffer.status();

  auto storage = std::unique_ptr<MemoryStorage>(new MemoryStorage(std::move(layout).value()));
  storage->own(std::move(buffer).value(), plan.value().offsets);
  const std::uint64_t checksums_at = plan.value().offsets.back();
  if (Status status = storage->owned_->touch(checksums_at, size_bytes - checksums_at); !status.is_ok()) return status;
  auto pinned = PinnedMemory::make(std::move(context), storage->owned_, storage->layout_->region_bytes()[0],
                                   storage->info_.slot_stride, options);
  if (!pinned.is_ok()) return pinned.status();
  storage->pinned_ = std::move(pinned).value();
  return storage;
}

Result<std::unique_ptr<MemoryStorage>> MemoryStorage::borrow(LayoutKind kind, const GroupShape& shape,
                                                             std::uint32_t slot_count,
                                                             std::span<const std::span<std::byte>> regions) {
  auto layout = SlotLayout::make(kind, shape, slot_count);
  if (!layout.is_ok()) return layout.status();
  if (Status status = check_regions(layout.value(), regions); !status.is_ok()) return status;

  // Not touched before use: the caller's own thread waits for this.
  auto checksums = HostBuffer::allocate(checksum_bytes(slot_count), {.prefault = false, .threads = 1});
  if (!checksums.is_ok()) return checksums.status();

  auto storage = std::unique_ptr<MemoryStorage>(new MemoryStorage(std::move(layout).value()));
  storage->checksum_memory_ = std::move(checksums).value();
  storage->checksums_ = {reinterpret_cast<Checksum*>(storage->checksum_memory_.data()), slot_count};
  storage->info_.borrowed = true;
  for (const std::span<std::byte>& region : regions) storage->regions_.push_back(region.data());
  return storage;
}

MemoryStorage::MemoryStorage(SlotLayout layout)
    : info_(info_of(layout)), layout_(std::make_unique<SlotLayout>(std::move(layout))) {}

void MemoryStorage::own(HostBuffer buffer, std::span<const std::uint64_t> offsets) {
  owned_ = std::make_shared<HostBuffer>(std::move(buffer));
  std::byte* const base = owned_->data();
  for (const std::uint64_t offset : offsets.first(offsets.size() - 1)) regions_.push_back(base + offset);
  checksums_ = {reinterpret_cast<Checksum*>(base + offsets.back()), info_.slot_count};
}

Checksum MemoryStorage::checksum_at(std::uint32_t slot) const noexcept {
  KVTIER_CHECK(slot < info_.slot_count);
  return checksums_[slot];
}

void MemoryStorage::set_checksum(std::uint32_t slot, const Checksum& checksum) noexcept {
  KVTIER_CHECK(slot < info_.slot_count);
  checksums_[slot] = checksum;
}

}  // namespace kvtier
