#include "transfer/device/copy_rects.h"

#include <algorithm>

#include "core/check.h"
#include "core/try_reserve.h"

namespace kvtier {
namespace {

bool is_before(const SlotPair& a, const SlotPair& b) noexcept {
  return a.device != b.device ? a.device < b.device : a.host < b.host;
}

// Appends a rectangle, or makes the last one longer where it is a flat run that goes on on both sides.
void append(const CopyRect& rect, std::vector<CopyRect>& rects) {
  if (rect.is_flat() && !rects.empty()) {
    CopyRect& last = rects.back();
    if (last.is_flat() && last.device + last.width == rect.device && last.host + last.width == rect.host) {
      last.width += rect.width;
      last.device_pitch = last.host_pitch = last.width;
      return;
    }
  }
  rects.push_back(rect);
}

void check_slots(const DeviceSlots& device, const HostSlots& host, std::span<const SlotPair> sorted) {
  KVTIER_CHECK(device.layout != nullptr);
  KVTIER_CHECK(host.stride >= device.layout->shape().block_bytes());
  KVTIER_CHECK(sorted.empty() || sorted.back().device < device.layout->slot_count());
}

// Calls with each range [first, end) of blocks whose slots follow each other on both sides.
template <typename Visit>
void for_each_group(std::span<const SlotPair> sorted, Visit visit) {
  for (std::size_t first = 0; first < sorted.size();) {
    std::size_t end = first + 1;
    while (end < sorted.size() && sorted[end].device == sorted[end - 1].device + 1 &&
           sorted[end].host == sorted[end - 1].host + 1) {
      ++end;
    }
    visit(first, end);
    first = end;
  }
}

}  // namespace

CopyRect joined(CopyRect rect) noexcept {
  if (rect.rows == 1 || (rect.device_pitch == rect.width && rect.host_pitch == rect.width)) {
    rect.width *= rect.rows;
    rect.rows = 1;
    rect.device_pitch = rect.host_pitch = rect.width;
  }
  return rect;
}

BlockSlice slice_of(const SlotLayout& layout, FragmentRange range) {
  const std::span<const Fragment> all = layout.fragments();
  KVTIER_CHECK(range.first <= all.size());
  BlockSlice slice;
  slice.fragments = all.subspan(range.first, std::min<std::size_t>(range.count, all.size() - range.first));
  for (const Fragment& fragment : all.first(range.first)) slice.offset += fragment.length;
  for (const Fragment& fragment : slice.fragments) slice.bytes += fragment.length;
  return slice;
}

Status sort_pairs(std::span<const SlotPair> pairs, std::vector<SlotPair>& sorted) {
  if (Status status = try_reserve(sorted, pairs.size()); !status.is_ok()) return status;
  sorted.assign(pairs.begin(), pairs.end());
  if (!std::is_sorted(sorted.begin(), sorted.end(), is_before)) std::sort(sorted.begin(), sorted.end(), is_before);
  return Status::ok();
}

CopySize count_copy(const DeviceSlots& device, const HostSlots& host, std::span<const SlotPair> sorted,
                    FragmentRange range) {
  check_slots(device, host, sorted);
  const BlockSlice slice = slice_of(*device.layout, range);
  const std::uint64_t fragments = slice.fragments.size();
  const auto touches = [&host](const Fragment& one) { return one.step == one.length && host.stride == one.length; };
  // Their rows are one run, however many blocks follow each other.
  const auto whole = static_cast<std::uint64_t>(std::count_if(slice.fragments.begin(), slice.fragments.end(), touches));

  CopySize size{.bytes = slice.bytes * sorted.size()};
  for_each_group(sorted, [&](std::size_t first, std::size_t end) {
    size.rects += fragments;
    size.runs += whole + (fragments - whole) * (end - first);
  });
  return size;
}

void plan_copy_rects(const DeviceSlots& device, const HostSlots& host, std::span<const SlotPair> sorted,
                     FragmentRange range, std::vector<CopyRect>& rects) {
  check_slots(device, host, sorted);
  const BlockSlice slice = slice_of(*device.layout, range);
  rects.clear();
  for_each_group(sorted, [&](std::size_t first, std::size_t end) {
    std::uint64_t at = host.base + host.stride * sorted[first].host + slice.offset;
    for (const Fragment& fragment : slice.fragments) {
      KVTIER_CHECK(fragment.region < device.regions.size());
      append(joined({.device = device.regions[fragment.region] + fragment.offset + fragment.step * sorted[first].device,
                     .host = at,
                     .width = fragment.length,
                     .rows = end - first,
                     .device_pitch = fragment.step,
                     .host_pitch = host.stride}),
             rects);
      at += fragment.length;
    }
  });
}

}  // namespace kvtier
