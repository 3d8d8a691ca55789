// The definition of the layouts, written down a second time and byte by byte: what the fast code is compared with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "layout/slot_layout.h"

namespace kvtier::reference {

inline constexpr LayoutKind kKinds[] = {LayoutKind::kContiguous, LayoutKind::kLayersKvOuter,
                                        LayoutKind::kLayersKvInner};

// Region and offset of one byte of a slot, by its place in canonical order.
inline std::pair<std::uint32_t, std::uint64_t> place_of(const SlotLayout& layout, std::uint32_t slot,
                                                        std::uint64_t canonical) {
  const GroupShape& shape = layout.shape();
  const std::uint64_t fragment = std::uint64_t{shape.tokens_per_block} * shape.bytes_per_token;
  const std::uint64_t within = canonical % fragment;
  const std::uint64_t outer = canonical / fragment % shape.outer;
  const auto region = static_cast<std::uint32_t>(canonical / fragment / shape.outer);
  switch (layout.kind()) {
    case LayoutKind::kContiguous:
      return {0, slot * shape.slot_stride() + canonical};
    case LayoutKind::kLayersKvOuter:
      return {region, (outer * layout.slot_count() + slot) * fragment + within};
    case LayoutKind::kLayersKvInner:
      return {region, (slot * std::uint64_t{shape.outer} + outer) * fragment + within};
  }
  return {};
}

// A slot's bytes in canonical order.
inline std::vector<std::byte> canonical_bytes(const SlotLayout& layout, std::byte* const* regions, std::uint32_t slot) {
  std::vector<std::byte> bytes;
  for (std::uint64_t at = 0; at < layout.shape().block_bytes(); ++at) {
    const auto [region, offset] = place_of(layout, slot, at);
    bytes.push_back(regions[region][offset]);
  }
  return bytes;
}

}  // namespace kvtier::reference
