// Which bytes a copy between device slots and host slots moves, in as few rectangles as the two layouts allow: rows
// that are contiguous on both sides, repeated at a constant distance on each. Pure arithmetic over addresses; nothing
// is dereferenced. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"
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

// Which of a layout's fragments are copied, for copying a layer at a time.
struct FragmentRange {
  std::uint32_t first = 0;
  std::uint32_t count = ~std::uint32_t{0};  // all that follow where there are fewer
};

// The fragments of a range, and the run of a block's canonical bytes that they are.
struct BlockSlice {
  std::span<const Fragment> fragments;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// Precondition: the range begins in the layout or at its end.
[[nodiscard]] BlockSlice slice_of(const SlotLayout& layout, FragmentRange range);

// The blocks in the order in which the functions below take them: by device slot. `sorted` is overwritten.
[[nodiscard]] Status sort_pairs(std::span<const SlotPair> pairs, std::vector<SlotPair>& sorted);

// How much a copy is: its bytes, in runs that are contiguous on both sides, in rectangles. Where regions happen to lie
// beside each other there may be fewer.
struct CopySize {
  std::uint64_t bytes = 0;
  std::uint64_t runs = 0;
  std::uint64_t rects = 0;

  friend bool operator==(const CopySize&, const CopySize&) = default;
};

// Without making them. `sorted` is what sort_pairs() left, or a part of it.
[[nodiscard]] CopySize count_copy(const DeviceSlots& device, const HostSlots& host, std::span<const SlotPair> sorted,
                                  FragmentRange range = {});

// The rectangles of these blocks, in place of what `rects` held. Blocks whose slots follow each other on both sides
// share them. Preconditions: slots are in range, no target is named twice, `sorted` is as for count_copy().
void plan_copy_rects(const DeviceSlots& device, const HostSlots& host, std::span<const SlotPair> sorted,
                     FragmentRange range, std::vector<CopyRect>& rects);

// Rows that touch on both sides are one row.
[[nodiscard]] CopyRect joined(CopyRect rect) noexcept;

}  // namespace kvtier
