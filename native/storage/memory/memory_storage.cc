#include "storage/memory/memory_storage.h"

#include <algorithm>
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

}  // namespace

Result<std::unique_ptr<MemoryStorage>> MemoryStorage::allocate(LayoutKind kind, const GroupShape& shape,
                                                               std::uint32_t slot_count,
                                                               const HostBufferOptions& options) {
  auto layout = SlotLayout::make(kind, shape, slot_count);
  if (!layout.is_ok()) return layout.status();

  // One allocation, so that what is free is compared with all of it: the regions, then the checksums.
  std::vector<std::uint64_t> sizes(layout.value().region_bytes().begin(), layout.value().region_bytes().end());
  sizes.push_back(checksum_bytes(slot_count));
  std::vector<std::uint64_t> offsets;
  std::optional<std::uint64_t> total = 0;
  for (const std::uint64_t bytes : sizes) {
    const auto start = total ? checked_round_up(*total, kRegionAlignment) : std::nullopt;
    total = start ? checked_sum(*start, bytes) : std::nullopt;
    if (!total)
      return Status(Code::kOutOfMemory, std::to_string(slot_count) + " slots of " + describe(shape) +
                                            " were asked for: more than an address space holds");
    offsets.push_back(*start);
  }
  auto buffer = HostBuffer::allocate(*total, options);
  if (!buffer.is_ok()) return buffer.status();

  auto storage = std::unique_ptr<MemoryStorage>(new MemoryStorage(std::move(layout).value()));
  storage->owned_ = std::make_shared<HostBuffer>(std::move(buffer).value());
  std::byte* const base = storage->owned_->data();
  storage->checksums_ = {reinterpret_cast<Checksum*>(base + offsets.back()), slot_count};
  offsets.pop_back();
  for (const std::uint64_t offset : offsets) storage->regions_.push_back(base + offset);
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

Checksum MemoryStorage::checksum_at(std::uint32_t slot) const noexcept {
  KVTIER_CHECK(slot < info_.slot_count);
  return checksums_[slot];
}

void MemoryStorage::set_checksum(std::uint32_t slot, const Checksum& checksum) noexcept {
  KVTIER_CHECK(slot < info_.slot_count);
  checksums_[slot] = checksum;
}

}  // namespace kvtier
