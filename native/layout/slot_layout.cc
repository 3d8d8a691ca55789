#include "layout/slot_layout.h"

#include <limits>
#include <string>

namespace kvtier {
namespace {

constexpr std::uint32_t kMaxSlotCount = std::numeric_limits<std::int32_t>::max();
constexpr std::uint64_t kMaxRegionBytes = std::uint64_t{1} << 62;
// A valid shape and slot count cannot reach the region's limit, so that no product below needs a check of its own.
static_assert(kMaxBlockBytes % 4096 == 0 && kMaxBlockBytes <= kMaxRegionBytes / kMaxSlotCount);

// Bytes that one slot takes in a region.
std::uint64_t slot_bytes_of(LayoutKind kind, const GroupShape& shape) noexcept {
  switch (kind) {
    case LayoutKind::kContiguous:
      return shape.slot_stride();
    case LayoutKind::kLayersKvOuter:
    case LayoutKind::kLayersKvInner:
      return shape.fragment_bytes() * shape.outer;
  }
  KVTIER_CHECK(false);
}

void append_region(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count, std::uint32_t region,
                   std::vector<Fragment>& fragments) {
  const std::uint64_t length = shape.fragment_bytes();
  // With a single slot, K and V are neighbours in both kinds.
  if (kind == LayoutKind::kLayersKvInner || slot_count == 1) {
    fragments.push_back({region, 0, length * shape.outer, length * shape.outer});
    return;
  }
  for (std::uint32_t outer = 0; outer < shape.outer; ++outer) {
    fragments.push_back({region, std::uint64_t{outer} * slot_count * length, length, length});
  }
}

}  // namespace

Result<SlotLayout> SlotLayout::make(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count) {
  if (Status status = shape.validate(); !status.is_ok()) return status;
  if (slot_count == 0 || slot_count > kMaxSlotCount) {
    return Status(Code::kInvalidValue, std::to_string(slot_count) +
                                           " slots were asked for; a layout has between 1 and " +
                                           std::to_string(kMaxSlotCount));
  }
  const std::uint64_t region_bytes = slot_bytes_of(kind, shape) * slot_count;

  SlotLayout layout;
  layout.kind_ = kind;
  layout.shape_ = shape;
  layout.slot_count_ = slot_count;
  if (kind == LayoutKind::kContiguous) {
    layout.region_bytes_ = {region_bytes};
    layout.fragments_ = {{0, 0, shape.slot_stride(), shape.block_bytes()}};
    return layout;
  }
  const std::uint32_t regions = shape.parts * shape.layers;
  layout.region_bytes_.assign(regions, region_bytes);
  layout.fragments_.reserve(std::size_t{regions} * shape.outer);
  for (std::uint32_t region = 0; region < regions; ++region) {
    append_region(kind, shape, slot_count, region, layout.fragments_);
  }
  return layout;
}

}  // namespace kvtier
