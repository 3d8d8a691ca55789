// Slots in host memory: allocated ones and borrowed ones.
#include "storage/memory/memory_storage.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/pattern.h"
#include "native/layout/reference_layout.h"

using kvtier::Checksum;
using kvtier::Code;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::MemoryStorage;
using kvtier::SequenceHash;
using kvtier::reference::kKinds;

namespace {

const GroupShape kShape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 100};

SequenceHash hash_of(std::uint8_t first) {
  SequenceHash hash{};
  hash[0] = first;
  return hash;
}

void check_slots_are_apart(MemoryStorage& storage) {
  const auto slot_count = storage.info().slot_count;
  for (std::uint32_t slot = 0; slot < slot_count; ++slot) {
    kvtier::fill_pattern(storage.view(), slot, hash_of(static_cast<std::uint8_t>(slot + 1)));
  }
  for (std::uint32_t slot = 0; slot < slot_count; ++slot) {
    CHECK(kvtier::check_pattern(storage.view(), slot, hash_of(static_cast<std::uint8_t>(slot + 1))));
  }
}

}  // namespace

TEST_CASE("allocated slots of every layout are apart from each other") {
  for (const LayoutKind kind : kKinds) {
    auto storage = MemoryStorage::allocate(kind, kShape, 7, {});
    REQUIRE(storage.is_ok());
    check_slots_are_apart(*storage.value());
  }
}

TEST_CASE("a memory storage says what it is") {
  auto storage = MemoryStorage::allocate(LayoutKind::kContiguous, kShape, 5, {});
  REQUIRE(storage.is_ok());
  const kvtier::StorageInfo& info = storage.value()->info();
  CHECK(std::string(info.kind) == "memory");
  CHECK(info.shape == kShape);
  CHECK(info.slot_count == 5);
  CHECK(info.slot_stride == 8192);
  CHECK(info.host_addressable);
  CHECK(info.keeps_checksums);
  CHECK_FALSE(info.persistent);
  CHECK(reinterpret_cast<std::uintptr_t>(storage.value()->view().regions[0]) % 4096 == 0);
}

TEST_CASE("every slot keeps its own checksum") {
  auto storage = MemoryStorage::allocate(LayoutKind::kLayersKvOuter, kShape, 5, {});
  REQUIRE(storage.is_ok());
  for (std::uint32_t slot = 0; slot < 5; ++slot) storage.value()->set_checksum(slot, Checksum{std::uint8_t(slot + 1)});
  for (std::uint32_t slot = 0; slot < 5; ++slot) {
    CHECK((storage.value()->checksum_at(slot) == Checksum{std::uint8_t(slot + 1)}));
  }
}

TEST_CASE("a memory storage has no runs to write, read, erase or sync") {
  auto storage = MemoryStorage::allocate(LayoutKind::kContiguous, kShape, 5, {});
  REQUIRE(storage.is_ok());
  CHECK(storage.value()->write_run(0, {}, {}).code() == Code::kUnsupported);
  CHECK(storage.value()->read_run(0, {}).code() == Code::kUnsupported);
  CHECK(storage.value()->erase({}).code() == Code::kUnsupported);
  CHECK(storage.value()->sync().code() == Code::kUnsupported);
}

TEST_CASE("a bad shape, no slots and more than the memory are refused") {
  CHECK(MemoryStorage::allocate(LayoutKind::kContiguous, GroupShape{}, 5, {}).status().code() == Code::kInvalidValue);
  CHECK(MemoryStorage::allocate(LayoutKind::kContiguous, kShape, 0, {}).status().code() == Code::kInvalidValue);
  const GroupShape large{.parts = 1, .layers = 1024, .outer = 2, .tokens_per_block = 512, .bytes_per_token = 1024};
  CHECK(MemoryStorage::allocate(LayoutKind::kLayersKvOuter, large, (1U << 31) - 1, {}).status().code() ==
        Code::kOutOfMemory);
}

TEST_CASE("borrowed slots lie in the lender's memory and are apart from each other") {
  for (const LayoutKind kind : kKinds) {
    const auto layout = kvtier::SlotLayout::make(kind, kShape, 7);
    REQUIRE(layout.is_ok());
    std::vector<std::vector<std::byte>> memory;
    std::vector<std::span<std::byte>> regions;
    for (const std::uint64_t bytes : layout.value().region_bytes()) memory.emplace_back(bytes);
    for (auto& region : memory) regions.emplace_back(region);
    auto storage = MemoryStorage::borrow(kind, kShape, 7, regions);
    REQUIRE(storage.is_ok());
    CHECK(storage.value()->view().regions[0] == memory[0].data());
    check_slots_are_apart(*storage.value());
  }
}

TEST_CASE("borrowed regions of another number, another size or over each other are refused") {
  const GroupShape shape{.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 8};
  std::vector<std::byte> memory(1000);
  const auto code_of = [&](std::vector<std::span<std::byte>> regions) {
    return MemoryStorage::borrow(LayoutKind::kLayersKvInner, shape, 3, regions).status().code();
  };
  const std::span<std::byte> all(memory);
  const std::size_t size = 3 * 64;
  CHECK(code_of({all.first(size), all.subspan(size, size)}) == Code::kOk);
  CHECK(code_of({all.first(size)}) == Code::kInvalidValue);
  CHECK(code_of({all.first(size), all.subspan(size, size), all.subspan(2 * size, size)}) == Code::kInvalidValue);
  CHECK(code_of({all.first(size), all.subspan(size, size - 1)}) == Code::kInvalidValue);
  CHECK(code_of({all.first(size), all.subspan(size, size + 1)}) == Code::kInvalidValue);
  CHECK(code_of({all.first(size), all.subspan(size - 1, size)}) == Code::kInvalidValue);
  CHECK(code_of({all.first(size), all.first(size)}) == Code::kInvalidValue);
}
