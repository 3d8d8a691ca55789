// Where a slot's bytes lie: every byte of every slot has a place of its own, inside its region.
#include "layout/slot_layout.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "native/layout/reference_layout.h"

using kvtier::Code;
using kvtier::Fragment;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::SlotLayout;
using kvtier::reference::kKinds;
using kvtier::reference::place_of;

namespace {

SlotLayout layout_of(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count) {
  auto layout = SlotLayout::make(kind, shape, slot_count);
  REQUIRE(layout.is_ok());
  return std::move(layout).value();
}

// Marks every byte of every slot and checks that each was free, inside its region and where place_of puts it.
void check_every_byte(const SlotLayout& layout) {
  std::vector<std::vector<std::uint8_t>> taken;
  for (const std::uint64_t bytes : layout.region_bytes()) taken.emplace_back(bytes, std::uint8_t{0});
  std::uint64_t wrong = 0;
  for (std::uint32_t slot = 0; slot < layout.slot_count(); ++slot) {
    std::uint64_t canonical = 0;
    for (const Fragment& fragment : layout.fragments()) {
      REQUIRE(fragment.region < taken.size());
      std::vector<std::uint8_t>& region = taken[fragment.region];
      const std::uint64_t start = fragment.offset + slot * fragment.step;
      REQUIRE(fragment.length > 0);
      REQUIRE(start + fragment.length <= region.size());
      for (std::uint64_t i = 0; i < fragment.length; ++i, ++canonical) {
        if (region[start + i] != 0) ++wrong;
        if (place_of(layout, slot, canonical) != std::pair{fragment.region, start + i}) ++wrong;
        region[start + i] = 1;
      }
    }
    REQUIRE(canonical == layout.shape().block_bytes());
  }
  CHECK(wrong == 0);
  if (layout.kind() == LayoutKind::kContiguous) return;
  // Device layouts have no gaps.
  std::uint64_t free = 0;
  for (const auto& region : taken) {
    for (const std::uint8_t mark : region) free += mark == 0;
  }
  CHECK(free == 0);
}

}  // namespace

TEST_CASE("a contiguous layout is one region and one fragment, with a step of whole 4 KiB pages") {
  const GroupShape shape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 100};
  const SlotLayout layout = layout_of(LayoutKind::kContiguous, shape, 5);
  REQUIRE(layout.region_bytes().size() == 1);
  CHECK(layout.region_bytes()[0] == 5 * 8192);
  REQUIRE(layout.fragments().size() == 1);
  CHECK(layout.fragments()[0].step == 8192);
  CHECK(layout.fragments()[0].length == 4800);
}

TEST_CASE("K and V inside the slot are one fragment a part and layer") {
  const GroupShape shape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 100};
  const SlotLayout layout = layout_of(LayoutKind::kLayersKvInner, shape, 5);
  CHECK(layout.region_bytes().size() == 6);
  CHECK(layout.fragments().size() == 6);
  CHECK(layout.fragments()[5].region == 5);
  CHECK(layout.fragments()[5].length == 800);
}

TEST_CASE("K and V outside the slots are two fragments a part and layer") {
  const GroupShape shape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 100};
  const SlotLayout layout = layout_of(LayoutKind::kLayersKvOuter, shape, 5);
  CHECK(layout.region_bytes().size() == 6);
  REQUIRE(layout.fragments().size() == 12);
  CHECK(layout.fragments()[1].offset == 5 * 400);
  CHECK(layout.fragments()[1].step == 400);
}

TEST_CASE("with one slot, K and V are adjacent and one fragment") {
  const GroupShape shape{.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 100};
  CHECK(layout_of(LayoutKind::kLayersKvOuter, shape, 1).fragments().size() == 3);
}

TEST_CASE("every byte of every slot has its own place, for random shapes of every kind") {
  std::mt19937 random(20260101);
  const auto pick = [&random](std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>(low, high)(random);
  };
  for (int round = 0; round < 60; ++round) {
    const GroupShape shape{.parts = pick(1, 3),
                           .layers = pick(1, 4),
                           .outer = pick(1, 2),
                           .tokens_per_block = pick(1, 9),
                           .bytes_per_token = pick(1, 130)};
    const std::uint32_t slot_count = pick(1, 6);
    CAPTURE(kvtier::describe(shape));
    CAPTURE(slot_count);
    for (const LayoutKind kind : kKinds) check_every_byte(layout_of(kind, shape, slot_count));
  }
}

TEST_CASE("a layout without slots, with too many or with a bad shape is refused") {
  const GroupShape shape{.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 1};
  for (const LayoutKind kind : kKinds) {
    CHECK(SlotLayout::make(kind, shape, 0).status().code() == Code::kInvalidValue);
    CHECK(SlotLayout::make(kind, shape, 1U << 31).status().code() == Code::kInvalidValue);
    CHECK(SlotLayout::make(kind, GroupShape{}, 1).status().code() == Code::kInvalidValue);
  }
}

TEST_CASE("the largest layout's sizes and offsets do not wrap") {
  const GroupShape shape{
      .parts = 1, .layers = 1, .outer = 2, .tokens_per_block = 1U << 10, .bytes_per_token = 1U << 19};
  const std::uint32_t slot_count = (1U << 31) - 1;
  for (const LayoutKind kind : kKinds) {
    const SlotLayout layout = layout_of(kind, shape, slot_count);
    std::uint64_t end = 0;
    for (const Fragment& fragment : layout.fragments()) {
      end = fragment.offset + (std::uint64_t{slot_count} - 1) * fragment.step + fragment.length;
    }
    CHECK(end == std::uint64_t{slot_count} << 30);
    CHECK(layout.region_bytes()[0] == end);
  }
}
