// Where the bytes of a slot lie: (slot, part, layer, K or V) -> region, offset and length. Pure arithmetic; it knows
// sizes, not addresses. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"
#include "layout/group_shape.h"

namespace kvtier {

enum class LayoutKind : std::uint8_t {
  kContiguous,     // one region; a slot is one run of bytes in canonical order
  kLayersKvOuter,  // one region a part and layer: [K|V][slot][token]
  kLayersKvInner,  // one region a part and layer: [slot][K|V][token]
};

// A run of a slot's bytes that is contiguous in canonical order and in its region.
struct Fragment {
  std::uint32_t region = 0;
  std::uint64_t offset = 0;  // of slot 0 in its region
  std::uint64_t step = 0;    // from one slot to the next in the region
  std::uint64_t length = 0;
};

class SlotLayout {
 public:
  // Fails with kInvalidValue: shape invalid, slot_count 0 or above 2^31 - 1. A region then stays below 2^62 bytes.
  [[nodiscard]] static Result<SlotLayout> make(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count);

  [[nodiscard]] LayoutKind kind() const noexcept { return kind_; }
  [[nodiscard]] const GroupShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::uint32_t slot_count() const noexcept { return slot_count_; }
  // A slot's runs in canonical order; their lengths add up to shape().block_bytes(). Runs that are adjacent in both
  // orders are one fragment: one for kContiguous, parts * layers for kLayersKvInner (and for a single slot of either).
  [[nodiscard]] std::span<const Fragment> fragments() const noexcept { return fragments_; }
  // Bytes each region must have. One region for kContiguous, parts * layers (part-major) otherwise.
  [[nodiscard]] std::span<const std::uint64_t> region_bytes() const noexcept { return region_bytes_; }

 private:
  SlotLayout() = default;
  LayoutKind kind_ = LayoutKind::kContiguous;
  GroupShape shape_;
  std::uint32_t slot_count_ = 0;
  std::vector<Fragment> fragments_;
  std::vector<std::uint64_t> region_bytes_;
};

}  // namespace kvtier
