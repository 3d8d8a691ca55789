#include "storage/memory/memory_storage.h"

#include <algorithm>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "core/checked_size.h"

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

}  // namespace

Result<std::unique_ptr<MemoryStorage>> MemoryStorage::allocate(LayoutKind kind, const GroupShape& shape,
                                                               std::uint32_t slot_count,
                                                               const HostBufferOptions& options) {
  auto layout = SlotLayout::make(kind, shape, slot_count);
  if (!layout.is_ok()) return layout.status();

  std::vector<std::uint64_t> offsets;
  std::optional<std::uint64_t> total = 0;
  for (const std::uint64_t bytes : layout.value().region_bytes()) {
    const auto start = total ? checked_round_up(*total, kRegionAlignment) : std::nullopt;
    total = start ? checked_sum(*start, bytes) : std::nullopt;
    if (!total)
      return Status(Code::kOutOfMemory, std::to_string(slot_count) + " slots of " + describe(shape) +
                                            " were asked for: more than an address space holds");
    offsets.push_back(*start);
  }
  auto buffer = HostBuffer::allocate(*total, options);
  if (!buffer.is_ok()) return buffer.status();

  auto storage = std::unique_ptr<MemoryStorage>(new MemoryStorage());
  storage->owned_ = std::move(buffer).value();
  for (const std::uint64_t offset : offsets) storage->regions_.push_back(storage->owned_.data() + offset);
  if (Status status = storage->adopt(std::move(layout).value()); !status.is_ok()) return status;
  return storage;
}

Result<std::unique_ptr<MemoryStorage>> MemoryStorage::borrow(LayoutKind kind, const GroupShape& shape,
                                                             std::uint32_t slot_count,
                                                             std::span<const std::span<std::byte>> regions) {
  auto layout = SlotLayout::make(kind, shape, slot_count);
  if (!layout.is_ok()) return layout.status();
  if (Status status = check_regions(layout.value(), regions); !status.is_ok()) return status;

  auto storage = std::unique_ptr<MemoryStorage>(new MemoryStorage());
  for (const std::span<std::byte>& region : regions) storage->regions_.push_back(region.data());
  if (Status status = storage->adopt(std::move(layout).value()); !status.is_ok()) return status;
  return storage;
}

Status MemoryStorage::adopt(SlotLayout layout) {
  info_ = info_of(layout);
  checksums_.reset(new (std::nothrow) Checksum[info_.slot_count]());
  if (checksums_ == nullptr) {
    return Status(Code::kOutOfMemory,
                  "checksums of " + std::to_string(info_.slot_count) + " slots do not fit in memory");
  }
  layout_ = std::make_unique<SlotLayout>(std::move(layout));
  return Status::ok();
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
