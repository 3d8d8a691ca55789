// A pattern that shows every byte that is not where it belongs.
#include "kernels/pattern.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "native/layout/reference_layout.h"
#include "storage/memory/memory_storage.h"

using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::MemoryStorage;
using kvtier::SequenceHash;
using kvtier::reference::canonical_bytes;
using kvtier::reference::kKinds;
using kvtier::reference::place_of;

namespace {

// Odd sizes, so that fragments begin and end within a word.
const GroupShape kShape{.parts = 2, .layers = 2, .outer = 2, .tokens_per_block = 3, .bytes_per_token = 7};

std::unique_ptr<MemoryStorage> slots_of(LayoutKind kind, const GroupShape& shape) {
  auto storage = MemoryStorage::allocate(kind, shape, 3, {.prefault = false, .threads = 1});
  REQUIRE(storage.is_ok());
  return std::move(storage).value();
}

SequenceHash hash_of(std::uint8_t first) {
  SequenceHash hash{};
  hash[0] = first;
  return hash;
}

std::vector<std::byte> bytes_of(const MemoryStorage& storage, std::uint32_t slot) {
  return canonical_bytes(*storage.view().layout, storage.view().regions, slot);
}

std::byte& byte_at(const MemoryStorage& storage, std::uint32_t slot, std::uint64_t canonical) {
  const auto [region, offset] = place_of(*storage.view().layout, slot, canonical);
  return storage.view().regions[region][offset];
}

}  // namespace

TEST_CASE("a filled slot passes its check and its neighbours stay empty, in every layout") {
  for (const LayoutKind kind : kKinds) {
    const auto storage = slots_of(kind, kShape);
    kvtier::fill_pattern(storage->view(), 1, hash_of(1));
    CHECK(kvtier::check_pattern(storage->view(), 1, hash_of(1)));
    for (const std::uint32_t other : {0U, 2U}) {
      CHECK(std::ranges::all_of(bytes_of(*storage, other), [](std::byte byte) { return byte == std::byte{0}; }));
      CHECK_FALSE(kvtier::check_pattern(storage->view(), other, hash_of(1)));
    }
  }
}

TEST_CASE("the pattern of a hash is the same bytes in every layout") {
  const auto first = slots_of(LayoutKind::kContiguous, kShape);
  kvtier::fill_pattern(first->view(), 0, hash_of(9));
  for (const LayoutKind kind : kKinds) {
    const auto storage = slots_of(kind, kShape);
    kvtier::fill_pattern(storage->view(), 2, hash_of(9));
    CHECK((bytes_of(*storage, 2) == bytes_of(*first, 0)));
  }
}

TEST_CASE("any bit of the hash changes the pattern") {
  const auto storage = slots_of(LayoutKind::kContiguous, kShape);
  kvtier::fill_pattern(storage->view(), 0, SequenceHash{});
  for (std::size_t bit = 0; bit < 256; ++bit) {
    SequenceHash hash{};
    hash[bit / 8] = static_cast<std::uint8_t>(1U << (bit % 8));
    CHECK_FALSE(kvtier::check_pattern(storage->view(), 0, hash));
  }
}

TEST_CASE("any single wrong byte fails the check") {
  for (const LayoutKind kind : kKinds) {
    const auto storage = slots_of(kind, kShape);
    kvtier::fill_pattern(storage->view(), 1, hash_of(3));
    for (std::uint64_t at = 0; at < kShape.block_bytes(); ++at) {
      byte_at(*storage, 1, at) ^= std::byte{1};
      CHECK_FALSE(kvtier::check_pattern(storage->view(), 1, hash_of(3)));
      byte_at(*storage, 1, at) ^= std::byte{1};
    }
    CHECK(kvtier::check_pattern(storage->view(), 1, hash_of(3)));
  }
}

TEST_CASE("layers, K and V, and shifted bytes are told apart") {
  const GroupShape shape{.parts = 1, .layers = 4, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 64};
  const auto storage = slots_of(LayoutKind::kContiguous, shape);
  kvtier::fill_pattern(storage->view(), 0, hash_of(5));
  const std::vector<std::byte> bytes = bytes_of(*storage, 0);
  const std::size_t fragment = shape.fragment_bytes();
  for (std::size_t a = 0; a < bytes.size(); a += fragment) {
    for (std::size_t b = a + fragment; b < bytes.size(); b += fragment) {
      const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(a);
      const auto second = bytes.begin() + static_cast<std::ptrdiff_t>(b);
      CHECK_FALSE(std::equal(first, first + static_cast<std::ptrdiff_t>(fragment), second));
    }
  }
  for (const std::size_t shift : {std::size_t{1}, std::size_t{8}, std::size_t{64}, std::size_t{4096}}) {
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(shift);
    CHECK_FALSE(std::equal(from, from + 64, bytes.begin()));
  }
}
