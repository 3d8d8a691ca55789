#include "transfer/device/copy_rects.h"

#include <algorithm>

#include "core/check.h"

namespace kvtier {
namespace {

// Rows that touch on both sides are one row.
CopyRect joined(CopyRect rect) noexcept {
  if (rect.rows == 1 || (rect.device_pitch == rect.width && rect.host_pitch == rect.width)) {
    rect.width *= rect.rows;
    rect.rows = 1;
    rect.device_pitch = rect.host_pitch = rect.width;
  }
  return rect;
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

}  // namespace

std::vector<CopyRect> plan_copy_rects(const DeviceSlots& device, const HostSlots& host,
                                      std::span<const SlotPair> pairs) {
  KVTIER_CHECK(device.layout != nullptr);
  KVTIER_CHECK(host.stride >= device.layout->shape().block_bytes());
  const auto before = [](const SlotPair& a, const SlotPair& b) noexcept { return a.device < b.device; };
  std::vector<SlotPair> sorted(pairs.begin(), pairs.end());
  if (!std::is_sorted(sorted.begin(), sorted.end(), before)) std::stable_sort(sorted.begin(), sorted.end(), before);

  std::vector<CopyRect> rects;
  for (std::size_t first = 0; first < sorted.size();) {
    std::size_t end = first + 1;
    while (end < sorted.size() && sorted[end].device == sorted[end - 1].device + 1 &&
           sorted[end].host == sorted[end - 1].host + 1) {
      ++end;
    }
    std::uint64_t at = host.base + host.stride * sorted[first].host;
    for (const Fragment& fragment : device.layout->fragments()) {
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
    first = end;
  }
  return rects;
}

std::vector<CopyRect> flatten(std::span<const CopyRect> rects) {
  std::vector<CopyRect> runs;
  for (const CopyRect& rect : rects) {
    for (std::uint64_t row = 0; row < rect.rows; ++row) {
      runs.push_back({.device = rect.device + rect.device_pitch * row,
                      .host = rect.host + rect.host_pitch * row,
                      .width = rect.width,
                      .rows = 1,
                      .device_pitch = rect.width,
                      .host_pitch = rect.width});
    }
  }
  return runs;
}

}  // namespace kvtier
