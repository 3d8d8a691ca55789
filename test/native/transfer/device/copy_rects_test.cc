// The rectangles of a copy move every byte of every block to its place, once, whatever the layout and the slots.
#include "transfer/device/copy_rects.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

using kvtier::CopyRect;
using kvtier::CopySize;
using kvtier::FragmentRange;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::SlotLayout;
using kvtier::SlotPair;

namespace {

constexpr std::uint64_t kDeviceBase = std::uint64_t{1} << 40;
constexpr std::uint64_t kHostBase = std::uint64_t{1} << 20;

struct Device {
  SlotLayout layout;
  std::vector<std::uint64_t> regions;

  Device(LayoutKind kind, const GroupShape& shape, std::uint32_t slots, std::uint64_t gap)
      : layout(SlotLayout::make(kind, shape, slots).value()) {
    std::uint64_t at = kDeviceBase;
    for (const std::uint64_t bytes : layout.region_bytes()) {
      regions.push_back(at);
      at += bytes + gap;
    }
  }

  [[nodiscard]] std::vector<CopyRect> plan(std::span<const SlotPair> pairs, std::uint64_t stride,
                                           FragmentRange range = {}) const {
    std::vector<SlotPair> sorted;
    CHECK(kvtier::sort_pairs(pairs, sorted).is_ok());
    std::vector<CopyRect> rects(3);  // what it held is replaced
    kvtier::plan_copy_rects({&layout, regions}, {kHostBase, stride}, sorted, range, rects);
    return rects;
  }

  [[nodiscard]] CopySize count(std::span<const SlotPair> pairs, std::uint64_t stride, FragmentRange range = {}) const {
    std::vector<SlotPair> sorted;
    CHECK(kvtier::sort_pairs(pairs, sorted).is_ok());
    return kvtier::count_copy({&layout, regions}, {kHostBase, stride}, sorted, range);
  }
};

CopySize size_of(std::span<const CopyRect> rects) {
  CopySize size{.rects = rects.size()};
  for (const CopyRect& rect : rects) {
    size.bytes += rect.bytes();
    size.runs += rect.rows;
  }
  return size;
}

// Where each host byte comes from, by the layout itself: no rectangles.
std::map<std::uint64_t, std::uint64_t> expected(const Device& device, std::uint64_t stride,
                                                std::span<const SlotPair> pairs, FragmentRange range = {}) {
  std::map<std::uint64_t, std::uint64_t> bytes;
  for (const SlotPair& pair : pairs) {
    std::uint64_t at = kHostBase + stride * pair.host;
    std::uint32_t index = 0;
    for (const kvtier::Fragment& fragment : device.layout.fragments()) {
      const bool inside = index >= range.first && index - range.first < range.count;
      for (std::uint64_t i = 0; i < fragment.length; ++i, ++at) {
        if (!inside) continue;
        bytes[at] = device.regions[fragment.region] + fragment.offset + fragment.step * pair.device + i;
      }
      ++index;
    }
  }
  return bytes;
}

std::map<std::uint64_t, std::uint64_t> moved(std::span<const CopyRect> rects) {
  std::map<std::uint64_t, std::uint64_t> bytes;
  for (const CopyRect& rect : rects) {
    for (std::uint64_t row = 0; row < rect.rows; ++row) {
      for (std::uint64_t i = 0; i < rect.width; ++i) {
        const bool fresh =
            bytes.emplace(rect.host + rect.host_pitch * row + i, rect.device + rect.device_pitch * row + i).second;
        REQUIRE(fresh);
      }
    }
  }
  return bytes;
}

constexpr GroupShape kShape{.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 2, .bytes_per_token = 8};

// A block that fills its slot of host memory.
constexpr GroupShape kWhole{.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 8, .bytes_per_token = 128};
static_assert(kWhole.layers * 2 * 8 * 128 == 4096);

}  // namespace

TEST_CASE("every byte goes to its place, once, whatever the layout and the order of the slots") {
  std::mt19937 random(7);
  const GroupShape shapes[] = {
      kShape,
      {.parts = 2, .layers = 2, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 4},
      {.parts = 1, .layers = 1, .outer = 2, .tokens_per_block = 3, .bytes_per_token = 1},
  };
  for (const LayoutKind kind : {LayoutKind::kContiguous, LayoutKind::kLayersKvOuter, LayoutKind::kLayersKvInner}) {
    for (const GroupShape& shape : shapes) {
      for (const std::uint64_t padding : {0U, 5U}) {
        const Device device(kind, shape, 24, padding);
        const std::uint64_t stride = shape.block_bytes() + padding;
        std::vector<std::uint32_t> slots(24);
        std::iota(slots.begin(), slots.end(), 0U);
        for (int round = 0; round < 8; ++round) {
          if (round > 0) std::shuffle(slots.begin(), slots.end(), random);
          std::vector<SlotPair> pairs;
          for (std::uint32_t i = 0; i < 12; ++i) pairs.push_back({slots[i], round % 2 == 0 ? slots[i] : slots[23 - i]});
          const std::vector<CopyRect> rects = device.plan(pairs, stride);
          CHECK(moved(rects) == expected(device, stride, pairs));
          CHECK(device.count(pairs, stride) == size_of(rects));
        }
      }
    }
  }
}

TEST_CASE("a range of fragments moves their bytes alone, also one that ends behind the layout or is empty") {
  std::mt19937 random(3);
  for (const LayoutKind kind : {LayoutKind::kContiguous, LayoutKind::kLayersKvOuter, LayoutKind::kLayersKvInner}) {
    const Device device(kind, kShape, 12, 7);
    std::vector<std::uint32_t> slots(12);
    std::iota(slots.begin(), slots.end(), 0U);
    std::shuffle(slots.begin() + 4, slots.end(), random);
    std::vector<SlotPair> pairs;
    for (std::uint32_t i = 0; i < 9; ++i) pairs.push_back({slots[i], slots[i]});
    const auto count = static_cast<std::uint32_t>(device.layout.fragments().size());
    for (std::uint32_t first = 0; first <= count; ++first) {
      for (const std::uint32_t length : {0U, 1U, 2U, ~0U}) {
        const FragmentRange range{first, length};
        const std::vector<CopyRect> rects = device.plan(pairs, 128, range);
        CHECK(moved(rects) == expected(device, 128, pairs, range));
        CHECK(device.count(pairs, 128, range) == size_of(rects));
        const kvtier::BlockSlice slice = kvtier::slice_of(device.layout, range);
        CHECK(slice.bytes * pairs.size() == size_of(rects).bytes);
        CHECK(slice.offset == first * kvtier::slice_of(device.layout, {0, 1}).bytes);
      }
    }
  }
}

TEST_CASE("one device slot may go to several host slots") {
  const Device device(LayoutKind::kLayersKvInner, kShape, 4, 0);
  const SlotPair pairs[] = {{1, 3}, {1, 0}, {1, 2}};
  const std::vector<CopyRect> rects = device.plan(pairs, 4096);
  CHECK(moved(rects) == expected(device, 4096, pairs));
}

TEST_CASE("whole blocks that follow each other on both sides are one run") {
  const Device device(LayoutKind::kContiguous, kWhole, 8, 0);
  const SlotPair pairs[] = {{2, 5}, {3, 6}, {4, 7}};
  const std::vector<CopyRect> rects = device.plan(pairs, kWhole.slot_stride());
  REQUIRE(rects.size() == 1);
  CHECK(rects[0].is_flat());
  CHECK(rects[0].width == 3 * kWhole.block_bytes());
}

TEST_CASE("blocks that follow each other in layers are one rectangle a layer, with a row a block") {
  const Device device(LayoutKind::kLayersKvInner, kShape, 8, 64);
  const SlotPair pairs[] = {{4, 2}, {2, 0}, {3, 1}};
  const std::vector<CopyRect> rects = device.plan(pairs, 4096);
  REQUIRE(rects.size() == kShape.layers);
  for (std::uint32_t layer = 0; layer < kShape.layers; ++layer) {
    const std::uint64_t width = kShape.outer * kShape.fragment_bytes();
    CHECK(rects[layer] == CopyRect{.device = device.regions[layer] + 2 * width,
                                   .host = kHostBase + layer * width,
                                   .width = width,
                                   .rows = 3,
                                   .device_pitch = width,
                                   .host_pitch = 4096});
  }
}

TEST_CASE("a run ends where either side jumps") {
  const Device device(LayoutKind::kContiguous, kWhole, 8, 0);
  const std::uint64_t stride = kWhole.slot_stride();
  const SlotPair device_jumps[] = {{0, 0}, {2, 1}};
  CHECK(device.plan(device_jumps, stride).size() == 2);
  const SlotPair host_jumps[] = {{0, 0}, {1, 2}};
  CHECK(device.plan(host_jumps, stride).size() == 2);
  CHECK(device.plan({}, stride).empty());
}

TEST_CASE("padding between host slots keeps blocks apart, in one rectangle") {
  const Device device(LayoutKind::kContiguous, kWhole, 8, 0);
  const SlotPair pairs[] = {{0, 0}, {1, 1}};
  const std::vector<CopyRect> rects = device.plan(pairs, 8192);
  REQUIRE(rects.size() == 1);
  CHECK(rects[0].rows == 2);
  CHECK(rects[0].width == kWhole.block_bytes());
  CHECK(rects[0].device_pitch == kWhole.slot_stride());
  CHECK(rects[0].host_pitch == 8192);
}
