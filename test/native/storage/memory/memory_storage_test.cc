// Slots in host memory: allocated ones and borrowed ones.
#include "storage/memory/memory_storage.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/pattern.h"
#include "native/layout/reference_layout.h"
#include "native/storage/resident_bytes.h"
#include "platform/system_memory.h"

using kvtier::Checksum;
using kvtier::Code;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::MemoryStorage;
using kvtier::resident_bytes;
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

TEST_CASE("checksums count as memory that is asked for, and are not touched where the slots are not") {
  // 1 byte a block, so that the checksums take sixteen times as much.
  const GroupShape tiny{.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 1};
  const std::uint64_t available = kvtier::system_memory().available_bytes.value_or(0);
  const std::uint32_t slot_count = (1U << 31) - 1;
  if (available == 0 || available > std::uint64_t{slot_count} * 16) {
    MESSAGE("skipped: this machine has room for the checksums of all slots that there can be");
  } else {
    const auto refused = MemoryStorage::allocate(LayoutKind::kLayersKvInner, tiny, slot_count, {});
    CHECK(refused.status().code() == Code::kOutOfMemory);
    const std::uint64_t asked = (std::uint64_t{1} << 31) + std::uint64_t{slot_count} * sizeof(Checksum);
    CHECK(refused.status().message().find(std::to_string(asked) + " bytes") != std::string::npos);
  }

  const std::uint64_t before = resident_bytes();
  auto storage = MemoryStorage::allocate(LayoutKind::kLayersKvInner, tiny, 1U << 22, {.prefault = false, .threads = 1});
  REQUIRE(storage.is_ok());
  CHECK(resident_bytes() < before + (std::uint64_t{8} << 20));
  CHECK((storage.value()->checksum_at((1U << 22) - 1) == Checksum{}));
}

TEST_CASE("a share of the memory keeps the slots where they are after their storage") {
  auto storage = MemoryStorage::allocate(LayoutKind::kContiguous, kShape, 5, {});
  REQUIRE(storage.is_ok());
  const std::shared_ptr<kvtier::HostBuffer> share = storage.value()->share_memory();
  REQUIRE(share != nullptr);
  std::byte* const bytes = storage.value()->view().regions[0];
  bytes[100] = std::byte{42};
  storage.value().reset();
  CHECK(bytes[100] == std::byte{42});

  std::vector<std::byte> memory(5 * kShape.slot_stride());
  const std::span<std::byte> region(memory);
  auto borrowed = MemoryStorage::borrow(LayoutKind::kContiguous, kShape, 5, {&region, 1});
  REQUIRE(borrowed.is_ok());
  CHECK(borrowed.value()->share_memory() == nullptr);
}
