// Slots in device memory, allocated and borrowed, on the simulated driver.
#if defined(__linux__)
#include "storage/device/device_storage.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "native/layout/reference_layout.h"
#include "native/memory/device/device_world.h"
#include "native/memory/device/lender.h"

using kvtier::Code;
using kvtier::CudaContext;
using kvtier::CurrentContext;
using kvtier::DeviceMemory;
using kvtier::DevicePart;
using kvtier::DeviceStorage;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::SlotLayout;
using kvtier::cuda::DevicePtr;
using kvtier::reference::kKinds;
using kvtier::sim::contains;
using kvtier::sim::DeviceWorld;
using kvtier::sim::Lender;

namespace {

using Contexts = std::vector<std::shared_ptr<const CudaContext>>;
using Regions = std::vector<DeviceMemory>;

const GroupShape kShape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 50};
constexpr std::uint32_t kSlots = 7;

struct Run {
  DevicePtr address = 0;
  std::uint64_t length = 0;
};

// Every run of every slot.
std::vector<Run> runs_of(const DeviceStorage& storage) {
  std::vector<Run> runs;
  for (const DevicePart& part : storage.device_parts()) {
    for (const kvtier::Fragment& fragment : part.layout->fragments()) {
      for (std::uint32_t slot = 0; slot < storage.info().slot_count; ++slot) {
        runs.push_back({part.regions[fragment.region] + fragment.offset + slot * fragment.step, fragment.length});
      }
    }
  }
  return runs;
}

// Writes another value into each run and finds it there, so that no two overlap and all are device memory.
void check_slots_are_apart(const DeviceWorld& world, const DeviceStorage& storage) {
  const std::vector<Run> runs = runs_of(storage);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    world.fill(runs[i].address, runs[i].length, static_cast<unsigned char>(i));
    bytes += runs[i].length;
  }
  CHECK(bytes == storage.info().shape.block_bytes() * storage.info().slot_count);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    CHECK(world.holds(runs[i].address, runs[i].length, static_cast<unsigned char>(i)));
  }
}

SlotLayout layout(LayoutKind kind, const GroupShape& shape) {
  auto made = SlotLayout::make(kind, shape, kSlots);
  REQUIRE(made.is_ok());
  return std::move(made).value();
}

GroupShape one_part() {
  GroupShape shape = kShape;
  shape.parts = 1;
  return shape;
}

int ordinal_of(const DeviceWorld& world, DevicePtr address) {
  int ordinal = -1;
  REQUIRE(world.cuda.pointer_get_attribute(&ordinal, kvtier::cuda::PointerAttribute::kDeviceOrdinal, address) ==
          kvtier::cuda::Error::kSuccess);
  return ordinal;
}

// Borrows a range of an engine's memory.
DeviceMemory lent(DeviceWorld& world, DevicePtr address, std::uint64_t size_bytes, int ordinal = 0) {
  auto memory = DeviceMemory::borrow(world.context(ordinal), address, size_bytes);
  REQUIRE(memory.is_ok());
  return std::move(memory).value();
}

// The regions of a layout, each in an allocation of its own.
void append_regions(DeviceWorld& world, const SlotLayout& layout, int ordinal, Regions& regions) {
  for (const std::uint64_t bytes : layout.region_bytes()) {
    regions.push_back(lent(world, world.allocate(bytes, ordinal), bytes, ordinal));
  }
}

}  // namespace

TEST_CASE("allocated slots of every layout are apart from each other, on one device in one allocation") {
  DeviceWorld world;
  for (const LayoutKind kind : kKinds) {
    for (const Contexts& contexts : {Contexts{world.context()}, Contexts{world.context(), world.context()}}) {
      const auto storage = DeviceStorage::allocate(contexts, kind, kShape, kSlots);
      REQUIRE(storage.is_ok());
      CHECK(world.sim.count("allocations") == 1);
      const auto parts = storage.value()->device_parts();
      REQUIRE(parts.size() == 1);
      CHECK(parts[0].context == world.context());
      CHECK(parts[0].layout->kind() == kind);
      CHECK(parts[0].layout->shape() == kShape);
      CHECK(parts[0].regions.size() == parts[0].layout->region_bytes().size());
      CHECK(parts[0].host_offset == 0);
      for (const std::uint64_t region : parts[0].regions) CHECK(region % 4096 == 0);
      check_slots_are_apart(world, *storage.value());
      CHECK(storage.value()->check_memory().is_ok());
    }
    CHECK(world.sim.count("allocations") == 0);
  }
}

TEST_CASE("a device storage says what it is, and a contiguous slot takes whole pages") {
  DeviceWorld world;
  const Contexts contexts = {world.context()};
  for (const LayoutKind kind : kKinds) {
    const auto storage = DeviceStorage::allocate(contexts, kind, kShape, kSlots);
    REQUIRE(storage.is_ok());
    const kvtier::StorageInfo& info = storage.value()->info();
    CHECK(std::string(info.kind) == "device");
    CHECK(info.shape == kShape);
    CHECK(info.slot_count == kSlots);
    CHECK(info.slot_stride == (kind == LayoutKind::kContiguous ? kShape.slot_stride() : kShape.block_bytes()));
    CHECK(info.on_device);
    CHECK_FALSE(info.host_addressable);
    CHECK_FALSE(info.keeps_checksums);
    CHECK_FALSE(info.persistent);
    CHECK_FALSE(info.borrowed);
    CHECK(storage.value()->share_memory() == nullptr);
    CHECK(storage.value()->pinned() == nullptr);
    const kvtier::Fragment& first = storage.value()->device_parts()[0].layout->fragments()[0];
    if (kind == LayoutKind::kContiguous) CHECK(first.step == kShape.slot_stride());
  }
}

TEST_CASE("parts on two devices are two device parts, each with its own part of every block") {
  DeviceWorld world;
  const Contexts contexts = {world.context(1), world.context(0)};
  for (const LayoutKind kind : kKinds) {
    const auto storage = DeviceStorage::allocate(contexts, kind, kShape, kSlots);
    REQUIRE(storage.is_ok());
    CHECK(world.sim.count("allocations") == 2);
    const auto parts = storage.value()->device_parts();
    REQUIRE(parts.size() == 2);
    const auto current = CurrentContext::enter(*world.context());
    for (std::size_t part = 0; part < 2; ++part) {
      CHECK(parts[part].context == contexts[part]);
      CHECK(parts[part].layout->shape() == one_part());
      CHECK(parts[part].layout->kind() == kind);
      CHECK(parts[part].host_offset == part * kShape.part_bytes());
      CHECK(parts[part].regions.size() == parts[part].layout->region_bytes().size());
      for (const DevicePtr region : parts[part].regions) {
        CHECK(ordinal_of(world, region) == contexts[part]->device().ordinal);
      }
    }
    const std::uint64_t stride = kind == LayoutKind::kContiguous ? 2 * one_part().slot_stride() : kShape.block_bytes();
    CHECK(storage.value()->info().slot_stride == stride);
    CHECK(storage.value()->info().shape == kShape);
    check_slots_are_apart(world, *storage.value());
  }
}

TEST_CASE("a bad shape, no slots, no device and another number of devices than parts are refused") {
  DeviceWorld world;
  const Contexts one = {world.context()};
  const Contexts three = {world.context(), world.context(), world.context()};
  const auto code_of = [](const Contexts& contexts, const GroupShape& shape, std::uint32_t slots) {
    return DeviceStorage::allocate(contexts, LayoutKind::kContiguous, shape, slots).status().code();
  };
  CHECK(code_of(one, kShape, kSlots) == Code::kOk);
  CHECK(code_of(one, GroupShape{}, kSlots) == Code::kInvalidValue);
  CHECK(code_of(one, kShape, 0) == Code::kInvalidValue);
  CHECK(code_of({}, kShape, kSlots) == Code::kInvalidValue);
  CHECK(code_of(three, kShape, kSlots) == Code::kInvalidValue);
  GroupShape no_parts = kShape;
  no_parts.parts = 0;
  CHECK(code_of({}, no_parts, kSlots) == Code::kInvalidValue);
  // What is checked is the block's shape, not that of what one device holds.
  GroupShape too_large{.parts = 2, .layers = 1024, .outer = 2, .tokens_per_block = 512, .bytes_per_token = 1024};
  CHECK(code_of({world.context(0), world.context(1)}, too_large, 1) == Code::kInvalidValue);
  CHECK(world.sim.count("allocations") == 0);
}

TEST_CASE("more than a device has free is refused with what was asked, and what the other gave is given back") {
  DeviceWorld world("memory=1M");
  const Contexts both = {world.context(0), world.context(1)};
  const DevicePtr taken = world.allocate(1 << 20, 1);
  const auto refused = DeviceStorage::allocate(both, LayoutKind::kContiguous, kShape, kSlots);
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(contains(refused.status().message(), "7 slots of 2 parts x 3 layers"));
  CHECK(contains(refused.status().message(), "bytes on device 1"));
  CHECK(contains(refused.status().message(), "0 of its 1048576 bytes are free"));
  CHECK(world.sim.count("allocations") == 1);
  world.free(taken);
  const GroupShape large{.parts = 1, .layers = 1024, .outer = 2, .tokens_per_block = 512, .bytes_per_token = 1024};
  const Contexts one = {world.context()};
  CHECK(DeviceStorage::allocate(one, LayoutKind::kLayersKvOuter, large, (1U << 31) - 1).status().code() ==
        Code::kOutOfMemory);
  // A call that fails leaves nothing either.
  CHECK(world.fail_each({"cuMemAlloc"}, [&] {
    return DeviceStorage::allocate(both, LayoutKind::kContiguous, kShape, kSlots).is_ok();
  }) == 2);
}

TEST_CASE("borrowed slots lie in the engine's memory, are apart from each other, and stay the engine's") {
  DeviceWorld world;
  for (const LayoutKind kind : kKinds) {
    const SlotLayout whole = layout(kind, kShape);
    const std::uint64_t before = world.sim.count("allocations");
    Regions regions;
    append_regions(world, whole, 0, regions);
    std::vector<DevicePtr> addresses;
    for (const DeviceMemory& region : regions) addresses.push_back(region.address());
    {
      const auto storage = DeviceStorage::borrow(kind, kShape, kSlots, std::move(regions));
      REQUIRE(storage.is_ok());
      CHECK(storage.value()->info().borrowed);
      const auto parts = storage.value()->device_parts();
      REQUIRE(parts.size() == 1);
      CHECK(parts[0].layout->shape() == kShape);
      CHECK(std::ranges::equal(parts[0].regions, addresses));
      check_slots_are_apart(world, *storage.value());
    }
    CHECK(world.sim.count("allocations") == before + whole.region_bytes().size());
  }
}

TEST_CASE("borrowed parts on two devices are two device parts") {
  DeviceWorld world;
  for (const LayoutKind kind : kKinds) {
    Regions regions;
    append_regions(world, layout(kind, one_part()), 1, regions);
    append_regions(world, layout(kind, one_part()), 0, regions);
    const std::size_t half = regions.size() / 2;
    std::vector<DevicePtr> addresses;
    for (const DeviceMemory& region : regions) addresses.push_back(region.address());
    const auto storage = DeviceStorage::borrow(kind, kShape, kSlots, std::move(regions));
    REQUIRE(storage.is_ok());
    const auto parts = storage.value()->device_parts();
    REQUIRE(parts.size() == 2);
    for (std::size_t part = 0; part < 2; ++part) {
      CHECK(parts[part].context == world.context(part == 0 ? 1 : 0));
      CHECK(parts[part].layout->shape() == one_part());
      CHECK(parts[part].host_offset == part * kShape.part_bytes());
      CHECK(std::ranges::equal(parts[part].regions, std::span(addresses).subspan(part * half, half)));
    }
    check_slots_are_apart(world, *storage.value());
  }
}

TEST_CASE("contiguous slots may have a region a part on one device too") {
  DeviceWorld world;
  Regions regions;
  append_regions(world, layout(LayoutKind::kContiguous, one_part()), 0, regions);
  append_regions(world, layout(LayoutKind::kContiguous, one_part()), 0, regions);
  const auto storage = DeviceStorage::borrow(LayoutKind::kContiguous, kShape, kSlots, std::move(regions));
  REQUIRE(storage.is_ok());
  CHECK(storage.value()->device_parts().size() == 2);
  CHECK(storage.value()->info().slot_stride == 2 * one_part().slot_stride());
  check_slots_are_apart(world, *storage.value());
}

TEST_CASE("borrowed regions of another number, another size, over each other or of a part on two devices are refused") {
  DeviceWorld world;
  const GroupShape shape{.parts = 2, .layers = 2, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 8};
  constexpr std::uint64_t kSize = 64 * 3;
  const DevicePtr engine = world.allocate(10 * kSize);
  const DevicePtr other = world.allocate(10 * kSize, 1);
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t size_bytes = kSize;
    int ordinal = 0;
  };
  const auto refusal = [&](const std::vector<Range>& ranges) {
    Regions regions;
    for (const Range& range : ranges) {
      const DevicePtr base = range.ordinal == 0 ? engine : other;
      regions.push_back(lent(world, base + range.offset, range.size_bytes, range.ordinal));
    }
    const auto storage = DeviceStorage::borrow(LayoutKind::kLayersKvInner, shape, 3, std::move(regions));
    return storage.status();
  };
  const auto refused = [&](const std::vector<Range>& ranges, const char* why) {
    const kvtier::Status status = refusal(ranges);
    CHECK(status.code() == Code::kInvalidValue);
    CHECK_MESSAGE(contains(status.message(), why), status.message());
  };
  CHECK(refusal({{0}, {kSize}, {2 * kSize}, {3 * kSize}}).is_ok());
  CHECK(refusal({{0}, {kSize}, {0, kSize, 1}, {kSize, kSize, 1}}).is_ok());
  refused({}, "0 regions were given, the layout has 4");
  refused({{0}, {kSize}, {2 * kSize}}, "3 regions were given, the layout has 4");
  refused({{0}, {kSize}, {2 * kSize}, {3 * kSize}, {4 * kSize}}, "5 regions were given, the layout has 4");
  refused({{0}, {kSize}, {2 * kSize}, {3 * kSize, kSize - 1}}, "region 3 has 191 bytes, the layout needs exactly 192");
  refused({{0}, {kSize}, {2 * kSize, kSize + 1}, {4 * kSize}}, "region 2 has 193 bytes, the layout needs exactly 192");
  refused({{0}, {kSize}, {2 * kSize}, {3 * kSize - 1}}, "two regions overlap on device 0");
  refused({{0}, {kSize}, {2 * kSize}, {0}}, "two regions overlap on device 0");
  refused({{0}, {kSize, kSize, 1}, {2 * kSize}, {3 * kSize}}, "the regions of part 0 lie on device 0 and device 1");
  refused({{0}, {kSize}, {2 * kSize, kSize, 1}, {3 * kSize}}, "the regions of part 1 lie on device 1 and device 0");
  Regions none;
  CHECK(DeviceStorage::borrow(LayoutKind::kContiguous, GroupShape{}, 3, std::move(none)).status().code() ==
        Code::kInvalidValue);
}

TEST_CASE("a check asks once for each allocation, and finds the one that was freed") {
  DeviceWorld world;
  const SlotLayout whole = layout(LayoutKind::kLayersKvInner, kShape);
  const std::uint64_t bytes = whole.region_bytes()[0];
  const DevicePtr first = world.allocate(4 * bytes);
  const DevicePtr second = world.allocate(2 * bytes);
  Regions regions;
  for (std::uint64_t i = 0; i < 4; ++i) regions.push_back(lent(world, first + i * bytes, bytes));
  for (std::uint64_t i = 0; i < 2; ++i) regions.push_back(lent(world, second + i * bytes, bytes));
  const auto storage = DeviceStorage::borrow(LayoutKind::kLayersKvInner, kShape, kSlots, std::move(regions));
  REQUIRE(storage.is_ok());
  const std::uint64_t before = world.sim.calls("cuPointerGetAttribute");
  CHECK(storage.value()->check_memory().is_ok());
  CHECK(world.sim.calls("cuPointerGetAttribute") - before == 2);
  world.free(second);
  const kvtier::Status freed = storage.value()->check_memory();
  CHECK(freed.code() == Code::kInvalidValue);
  CHECK(contains(freed.message(), "it was freed"));
}

TEST_CASE("memory of allocate() needs no check, and may be given as regions beside borrowed ones") {
  DeviceWorld world;
  const SlotLayout whole = layout(LayoutKind::kContiguous, one_part());
  auto own = DeviceMemory::allocate(world.context(), whole.region_bytes()[0]);
  REQUIRE(own.is_ok());
  Regions regions;
  regions.push_back(std::move(own).value());
  append_regions(world, whole, 1, regions);
  {
    const auto storage = DeviceStorage::borrow(LayoutKind::kContiguous, kShape, kSlots, std::move(regions));
    REQUIRE(storage.is_ok());
    CHECK(storage.value()->info().borrowed);
    const std::uint64_t before = world.sim.calls("cuPointerGetAttribute");
    CHECK(storage.value()->check_memory().is_ok());
    CHECK(world.sim.calls("cuPointerGetAttribute") - before == 1);
    CHECK(world.sim.count("allocations") == 2);
  }
  CHECK(world.sim.count("allocations") == 1);
  auto all_own = DeviceMemory::allocate(world.context(), layout(LayoutKind::kContiguous, kShape).region_bytes()[0]);
  REQUIRE(all_own.is_ok());
  Regions own_regions;
  own_regions.push_back(std::move(all_own).value());
  const auto storage = DeviceStorage::borrow(LayoutKind::kContiguous, kShape, kSlots, std::move(own_regions));
  REQUIRE(storage.is_ok());
  CHECK_FALSE(storage.value()->info().borrowed);
}

TEST_CASE("slots lie in another process's memory, and its end is found before they are used") {
  DeviceWorld world;
  Lender lender;
  const SlotLayout whole = layout(LayoutKind::kContiguous, one_part());
  const std::uint64_t bytes = whole.region_bytes()[0];
  Regions regions;
  for (const std::uint64_t offset : {std::uint64_t{4096}, 4096 + bytes}) {
    kvtier::IpcRange range = lender.first;
    range.offset = offset;
    range.size_bytes = bytes;
    auto memory = DeviceMemory::open(world.context(), range);
    REQUIRE(memory.is_ok());
    regions.push_back(std::move(memory).value());
  }
  const auto storage = DeviceStorage::borrow(LayoutKind::kContiguous, kShape, kSlots, std::move(regions));
  REQUIRE(storage.is_ok());
  CHECK(storage.value()->info().borrowed);
  CHECK(world.sim.count("imports") == 1);
  CHECK(world.holds(storage.value()->device_parts()[1].regions[0], bytes, 1));
  check_slots_are_apart(world, *storage.value());
  CHECK(storage.value()->check_memory().is_ok());
  (void)lender.end(SIGKILL);
  const kvtier::Status ended = storage.value()->check_memory();
  CHECK(ended.code() == Code::kIo);
  CHECK(contains(ended.message(), "has ended"));
}
#endif
