#include "storage/device/device_storage.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "core/checked_size.h"

namespace kvtier {
namespace {

// Regions of one allocation start on pages of their own.
constexpr std::uint64_t kRegionAlignment = 4096;

Status bad_regions(const std::string& why) {
  return Status(Code::kInvalidValue, "device memory of an engine: " + why);
}

std::string device_name(const CudaContext& context) {
  return "device " + std::to_string(context.device().ordinal);
}

// The layout of what one device part holds: all of a block, or one part of it.
Result<SlotLayout> layout_of(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count, bool is_split) {
  if (Status status = shape.validate(); !status) return status;
  GroupShape held = shape;
  if (is_split) held.parts = 1;
  return SlotLayout::make(kind, held, slot_count);
}

// Where each region starts in one allocation, and last where that ends; nullopt when no address space holds it.
std::optional<std::vector<std::uint64_t>> offsets_of(std::span<const std::uint64_t> region_bytes) {
  std::vector<std::uint64_t> offsets = {0};
  for (const std::uint64_t bytes : region_bytes) {
    const auto end = checked_sum(offsets.back(), bytes);
    const auto next = end ? checked_round_up(*end, kRegionAlignment) : std::nullopt;
    if (!next) return std::nullopt;
    offsets.push_back(*next);
  }
  return offsets;
}

bool on_one_device(std::span<const std::shared_ptr<const CudaContext>> contexts) {
  return std::ranges::all_of(contexts, [&](const auto& context) { return context->handle() == contexts[0]->handle(); });
}

// Whether the regions are those of parts on devices of their own. The layout of whole blocks has `whole` regions.
bool is_split(LayoutKind kind, const GroupShape& shape, std::size_t whole, std::span<const DeviceMemory> regions) {
  if (kind == LayoutKind::kContiguous) return shape.parts > 1 && regions.size() == shape.parts;
  const auto differs = [&](const DeviceMemory& region) {
    return region.context()->handle() != regions[0].context()->handle();
  };
  return regions.size() == whole && std::ranges::any_of(regions, differs);
}

Status check_sizes(const SlotLayout& layout, std::size_t part_count, std::span<const DeviceMemory> regions) {
  const std::span<const std::uint64_t> needed = layout.region_bytes();
  if (regions.size() != needed.size() * part_count) {
    return bad_regions(std::to_string(regions.size()) + " regions were given, the layout has " +
                       std::to_string(needed.size() * part_count));
  }
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const std::uint64_t needs = needed[i % needed.size()];
    if (regions[i].size_bytes() != needs) {
      return bad_regions("region " + std::to_string(i) + " has " + std::to_string(regions[i].size_bytes()) +
                         " bytes, the layout needs exactly " + std::to_string(needs));
    }
    const std::size_t part = i / needed.size();
    const CudaContext& first = *regions[part * needed.size()].context();
    if (regions[i].context()->handle() != first.handle()) {
      return bad_regions("the regions of part " + std::to_string(part) + " lie on " + device_name(first) + " and " +
                         device_name(*regions[i].context()) + "; a part lies on one device");
    }
  }
  return Status::ok();
}

// Two regions over the same bytes would make slots overwrite each other. No two devices have the same addresses.
Status check_overlaps(std::span<const DeviceMemory> regions) {
  std::vector<const DeviceMemory*> sorted;
  for (const DeviceMemory& region : regions) sorted.push_back(&region);
  std::ranges::sort(sorted, {}, [](const DeviceMemory* region) { return region->address(); });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i]->address() - sorted[i - 1]->address() < sorted[i - 1]->size_bytes()) {
      return bad_regions("two regions overlap on " + device_name(*sorted[i]->context()));
    }
  }
  return Status::ok();
}

}  // namespace

DeviceStorage::DeviceStorage(const GroupShape& shape, SlotLayout layout, std::size_t part_count) {
  info_.kind = "device";
  info_.shape = shape;
  info_.slot_count = layout.slot_count();
  info_.slot_stride =
      layout.kind() == LayoutKind::kContiguous ? layout.shape().slot_stride() * part_count : shape.block_bytes();
  info_.on_device = true;
  layout_ = std::make_unique<const SlotLayout>(std::move(layout));
  // Parts hold spans of it.
  regions_.reserve(layout_->region_bytes().size() * part_count);
}

void DeviceStorage::add_part(std::shared_ptr<const CudaContext> context, std::size_t part) {
  const std::size_t count = layout_->region_bytes().size();
  parts_.push_back({.context = std::move(context),
                    .layout = layout_.get(),
                    .regions = std::span<const std::uint64_t>(regions_).subspan(part * count, count),
                    .host_offset = part * layout_->shape().block_bytes()});
}

Result<std::unique_ptr<DeviceStorage>> DeviceStorage::allocate(
    std::span<const std::shared_ptr<const CudaContext>> contexts, LayoutKind kind, const GroupShape& shape,
    std::uint32_t slot_count) {
  if (contexts.empty() || (contexts.size() != 1 && contexts.size() != shape.parts)) {
    return Status(Code::kInvalidValue, std::to_string(contexts.size()) + " devices were named for blocks of " +
                                           std::to_string(shape.parts) + " parts; name one, or one for each part");
  }
  const bool split = !on_one_device(contexts);
  const std::size_t part_count = split ? contexts.size() : 1;
  auto layout = layout_of(kind, shape, slot_count, split);
  if (!layout) return layout.status();
  const std::string asked = std::to_string(slot_count) + " slots of " + describe(shape) + " were asked for";
  const auto offsets = offsets_of(layout.value().region_bytes());
  if (!offsets) return Status(Code::kOutOfMemory, asked + ": more than an address space holds");

  std::unique_ptr<DeviceStorage> storage(new DeviceStorage(shape, std::move(layout).value(), part_count));
  for (std::size_t part = 0; part < part_count; ++part) {
    auto memory = DeviceMemory::allocate(contexts[part], offsets->back());
    if (!memory) return Status(memory.status().code(), asked + ": " + memory.status().message());
    for (std::size_t region = 0; region + 1 < offsets->size(); ++region) {
      storage->regions_.push_back(memory.value().address() + (*offsets)[region]);
    }
    storage->memory_.push_back(std::move(memory).value());
    storage->add_part(contexts[part], part);
  }
  return storage;
}

Result<std::unique_ptr<DeviceStorage>> DeviceStorage::borrow(LayoutKind kind, const GroupShape& shape,
                                                             std::uint32_t slot_count,
                                                             std::vector<DeviceMemory> regions) {
  auto layout = layout_of(kind, shape, slot_count, false);
  if (!layout) return layout.status();
  const bool split = is_split(kind, shape, layout.value().region_bytes().size(), regions);
  if (split) layout = layout_of(kind, shape, slot_count, true);
  if (!layout) return layout.status();
  const std::size_t part_count = split ? shape.parts : 1;
  if (Status status = check_sizes(layout.value(), part_count, regions); !status) return status;
  if (Status status = check_overlaps(regions); !status) return status;

  std::unique_ptr<DeviceStorage> storage(new DeviceStorage(shape, std::move(layout).value(), part_count));
  storage->memory_ = std::move(regions);
  for (const DeviceMemory& region : storage->memory_) storage->regions_.push_back(region.address());
  const std::size_t regions_of_part = storage->memory_.size() / part_count;
  for (std::size_t part = 0; part < part_count; ++part) {
    storage->add_part(storage->memory_[part * regions_of_part].context(), part);
  }
  storage->find_lent();
  return storage;
}

void DeviceStorage::find_lent() {
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    if (!memory_[i].is_borrowed()) continue;
    info_.borrowed = true;
    if (seen.insert(memory_[i].allocation_id()).second) lent_.push_back(i);
  }
}

Status DeviceStorage::check_memory() const noexcept {
  for (const std::size_t index : lent_) {
    if (Status status = memory_[index].check(); !status) return status;
  }
  return Status::ok();
}

}  // namespace kvtier
