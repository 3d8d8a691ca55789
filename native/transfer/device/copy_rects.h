// Which bytes a copy between device slots and host slots moves, as few rectangles as the two layouts allow: rows that
// are contiguous on both sides, repeated at a constant distance on each. Pure arithmetic over addresses; nothing is
// dereferenced. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layout/slot_layout.h"

namespace kvtier {

// `rows` runs of `width` bytes. A single row, or rows that touch on both sides, have pitches equal to the width.
struct CopyRect {
  std::uint64_t device = 0;  // address of the first row
  std::uint64_t host = 0;
  std::uint64_t width = 0;
  std::uint64_t rows = 1;
  std::uint64_t device_pitch = 0;  // from one row to the next
  std::uint64_t host_pitch = 0;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return width * rows; }
  // One run of bytes on both sides.
  [[nodiscard]] bool is_flat() const noexcept { return rows == 1; }

  friend bool operator==(const CopyRect&, const CopyRect&) = default;
};

// Device memory in slots: a layout, and the address of each of its regions.
struct DeviceSlots {
  const SlotLayout* layout = nullptr;
  std::span<const std::uint64_t> regions;
};

// Host memory in slots, each a block in canonical order.
struct HostSlots {
  std::uint64_t base = 0;
  std::uint64_t stride = 0;
};

// A block's slots on both sides.
struct SlotPair {
  std::uint32_t device = 0;
  std::uint32_t host = 0;
};

// The rectangles of these blocks. Blocks whose slots follow each other on both sides share them; `pairs` may come in
// any order and are sorted for that. Precondition: slots are in range, no host slot is named twice.
[[nodiscard]] std::vector<CopyRect> plan_copy_rects(const DeviceSlots& device, const HostSlots& host,
                                                    std::span<const SlotPair> pairs);

// The same bytes as flat runs, for copies that take no pitch.
[[nodiscard]] std::vector<CopyRect> flatten(std::span<const CopyRect> rects);

}  // namespace kvtier
