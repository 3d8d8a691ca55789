// Copies between all kinds of layouts are compared with a byte-wise reference, in memory of any alignment, and so is
// what lies around the target.
#include "kernels/copy_block.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "native/layout/reference_layout.h"

using kvtier::Checksum;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::SlotLayout;
using kvtier::SlotView;
using kvtier::Stores;
using kvtier::reference::canonical_bytes;
using kvtier::reference::kKinds;
using kvtier::reference::place_of;

namespace {

constexpr std::size_t kGuardBytes = 64;

// Slots in plain memory whose regions start at odd addresses, between guard bytes, filled with random bytes.
class Slots {
 public:
  Slots(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count, std::mt19937& random)
      : layout_(SlotLayout::make(kind, shape, slot_count).value()) {
    for (const std::uint64_t bytes : layout_.region_bytes()) {
      memory_.emplace_back(bytes + 3 * kGuardBytes);
      for (std::byte& byte : memory_.back()) byte = static_cast<std::byte>(random());
      regions_.push_back(memory_.back().data() + kGuardBytes + random() % kGuardBytes);
    }
  }

  [[nodiscard]] SlotView view() const { return {&layout_, regions_.data()}; }
  [[nodiscard]] const SlotLayout& layout() const { return layout_; }
  [[nodiscard]] std::vector<std::byte> slot(std::uint32_t slot) const {
    return canonical_bytes(layout_, regions_.data(), slot);
  }
  [[nodiscard]] const std::vector<std::vector<std::byte>>& memory() const { return memory_; }

  // All memory, guards included, as it must be after a copy of these bytes into the slot.
  [[nodiscard]] std::vector<std::vector<std::byte>> memory_with(std::uint32_t slot,
                                                                const std::vector<std::byte>& bytes) const {
    std::vector<std::vector<std::byte>> expected = memory_;
    for (std::uint64_t at = 0; at < bytes.size(); ++at) {
      const auto [region, offset] = place_of(layout_, slot, at);
      const auto base = static_cast<std::size_t>(regions_[region] - memory_[region].data());
      expected[region][base + offset] = bytes[at];
    }
    return expected;
  }

 private:
  SlotLayout layout_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::byte*> regions_;
};

const GroupShape kShapes[] = {
    {.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 1},
    {.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 5, .bytes_per_token = 13},
    {.parts = 3, .layers = 2, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 64},
    {.parts = 2, .layers = 2, .outer = 1, .tokens_per_block = 7, .bytes_per_token = 577},
    {.parts = 1, .layers = 4, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 257},
    // Parts of more than a 64 KiB leaf, fragments of several chunks.
    {.parts = 2, .layers = 2, .outer = 2, .tokens_per_block = 9, .bytes_per_token = 2777},
};

Checksum reference_checksum(const std::vector<std::byte>& bytes, const GroupShape& shape, std::uint64_t seed) {
  return kvtier::payload_checksum(bytes, shape.part_bytes(), seed);
}

template <typename Check>
void for_each_pair(Check check) {
  std::mt19937 random(7);
  for (const GroupShape& shape : kShapes) {
    CAPTURE(kvtier::describe(shape));
    for (const LayoutKind source_kind : kKinds) {
      for (const LayoutKind target_kind : kKinds) {
        for (const Stores stores : {Stores::kCached, Stores::kStreaming}) {
          CAPTURE(static_cast<int>(source_kind));
          CAPTURE(static_cast<int>(target_kind));
          CAPTURE(static_cast<int>(stores));
          const Slots source(source_kind, shape, 3, random);
          const Slots target(target_kind, shape, 4, random);
          check(source, static_cast<std::uint32_t>(random() % 3), target, static_cast<std::uint32_t>(random() % 4),
                stores);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("a copy between any two layouts moves every byte to its place and touches no other") {
  for_each_pair([](const Slots& source, std::uint32_t from, const Slots& target, std::uint32_t to, Stores stores) {
    const auto expected = target.memory_with(to, source.slot(from));
    kvtier::copy_block(source.view(), from, target.view(), to, stores);
    CHECK((target.memory() == expected));
  });
}

TEST_CASE("a checked copy moves the same bytes and returns the checksum of their canonical order") {
  for_each_pair([](const Slots& source, std::uint32_t from, const Slots& target, std::uint32_t to, Stores stores) {
    const std::vector<std::byte> bytes = source.slot(from);
    const auto expected = target.memory_with(to, bytes);
    const Checksum checksum = kvtier::copy_block_checked(source.view(), from, target.view(), to, stores, 0x1234567890);
    CHECK((target.memory() == expected));
    CHECK((checksum == reference_checksum(bytes, source.layout().shape(), 0x1234567890)));
  });
}

TEST_CASE("a block has the same checksum in every layout") {
  std::mt19937 random(11);
  for (const GroupShape& shape : kShapes) {
    for (const LayoutKind kind : kKinds) {
      const Slots slots(kind, shape, 3, random);
      const Checksum checksum = kvtier::checksum_block(slots.view(), 1, 42);
      CHECK((checksum == reference_checksum(slots.slot(1), shape, 42)));
      CHECK((checksum != kvtier::checksum_block(slots.view(), 1, 43)));
    }
  }
}

TEST_CASE("a copy inside one storage leaves the source as it was") {
  std::mt19937 random(13);
  for (const LayoutKind kind : kKinds) {
    const Slots slots(kind, kShapes[4], 3, random);
    const auto expected = slots.memory_with(2, slots.slot(0));
    kvtier::copy_block(slots.view(), 0, slots.view(), 2, Stores::kStreaming);
    CHECK((slots.memory() == expected));
  }
}

TEST_CASE("large batches get streaming stores and small ones do not") {
  CHECK(kvtier::stores_for(4096) == Stores::kCached);
  CHECK(kvtier::stores_for(64 << 10) == Stores::kCached);
  CHECK(kvtier::stores_for(1 << 20) == Stores::kStreaming);
}

TEST_CASE("the variant of streaming stores has a name") {
  const std::string name = kvtier::streaming_variant();
  CHECK((name == "avx2" || name == "memcpy"));
}
