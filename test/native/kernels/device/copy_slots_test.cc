// Copies by kernels on the simulated driver, compared byte by byte with what they mean, and with copy_block() between
// whole layouts.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>

#include "kernels/copy_block.h"
#include "kernels/device/cut_launches.h"
#include "native/kernels/device/kernel_world.h"
#include "native/layout/reference_layout.h"

using kvtier::CopyLaunches;
using kvtier::DeviceKernels;
using kvtier::GroupShape;
using kvtier::KernelFragment;
using kvtier::KernelSlots;
using kvtier::LayoutKind;
using kvtier::SlotCopy;
using kvtier::SlotLayout;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Error;
using kvtier::cuda::Stream;
using kvtier::reference::kKinds;
using kvtier::sim::has;
using kvtier::sim::KernelWorld;
using kvtier::sim::Pinned;
using kvtier::sim::random_bytes;

namespace {

using Bytes = std::vector<unsigned char>;

// Device memory that holds random bytes, which the test knows.
struct DeviceBytes {
  DeviceBytes(const kvtier::sim::World& from, std::mt19937_64& random, std::size_t count)
      : world(from), bytes(random_bytes<unsigned char>(random, count)), address(from.allocate(count)) {
    REQUIRE(world.sim.write(address, bytes.data(), count) == 1);
  }
  [[nodiscard]] Bytes now() const { return world.read(address, bytes.size()); }

  const kvtier::sim::World& world;
  Bytes bytes;
  DevicePtr address;
};

std::vector<std::uint32_t> drawn(std::mt19937_64& random, std::uint32_t count, std::uint32_t below) {
  std::vector<std::uint32_t> numbers(below);
  std::iota(numbers.begin(), numbers.end(), 0U);
  std::shuffle(numbers.begin(), numbers.end(), random);
  numbers.resize(count);
  return numbers;
}

// Runs that do not overlap, in no order on either side, whose addresses and lengths are multiples of `unit`.
struct DrawnCopy {
  std::vector<KernelFragment> fragments;  // addresses as offsets
  std::vector<KernelSlots> slots;
  std::uint64_t run_bytes = 0;
  std::uint64_t step = 0;
  std::uint64_t stride = 0;
  std::uint64_t device_bytes = 0;
  std::uint64_t host_bytes = 0;

  DrawnCopy(std::mt19937_64& random, std::uint32_t fragment_count, std::uint32_t slot_count, std::uint64_t unit,
            std::uint64_t units)
      : run_bytes(unit * units), step(run_bytes + unit * (random() % 3)) {
    const std::uint32_t device_slots = slot_count + static_cast<std::uint32_t>(random() % 4);
    const std::uint32_t host_slots = slot_count + static_cast<std::uint32_t>(random() % 4);
    const std::uint64_t region = step * device_slots + unit * (random() % 5);
    const auto on_device = drawn(random, fragment_count, fragment_count + 1);
    const auto on_host = drawn(random, fragment_count, fragment_count + 2);
    for (std::uint32_t i = 0; i < fragment_count; ++i) {
      fragments.push_back({region * on_device[i], run_bytes * on_host[i]});
    }
    stride = run_bytes * (fragment_count + 2) + unit * (random() % 7);
    const auto device = drawn(random, slot_count, device_slots);
    const auto host = drawn(random, slot_count, host_slots);
    for (std::uint32_t i = 0; i < slot_count; ++i) slots.push_back({device[i], host[i]});
    device_bytes = region * (fragment_count + 1);
    host_bytes = stride * host_slots;
  }

  // The same in memory.
  void to(Bytes& device, Bytes& host, bool to_device) const {
    for (const KernelSlots& pair : slots) {
      for (const KernelFragment& fragment : fragments) {
        auto on_device = device.begin() + static_cast<std::ptrdiff_t>(fragment.device + step * pair.device);
        auto on_host = host.begin() + static_cast<std::ptrdiff_t>(fragment.host_offset + stride * pair.host);
        const auto count = static_cast<std::ptrdiff_t>(run_bytes);
        if (to_device) {
          std::copy(on_host, on_host + count, on_device);
        } else {
          std::copy(on_device, on_device + count, on_host);
        }
      }
    }
  }
};

// What a drawn copy does on the simulated device, in memory that begins `shift` bytes beyond an allocation.
void check_copy(const KernelWorld& kernel_world, const DeviceKernels& kernels, std::mt19937_64& random,
                const DrawnCopy& drawn_copy, std::uint64_t shift, unsigned max_blocks, const std::string& kernel) {
  const auto& world = kernel_world.world;
  for (const bool to_device : {false, true}) {
    CAPTURE(to_device);
    const DeviceBytes device(world, random, drawn_copy.device_bytes + shift);
    // Aligned by the page, and after that as the device's.
    const auto initial = random_bytes<unsigned char>(random, drawn_copy.host_bytes + shift);
    Pinned memory(initial.size() + 4096);
    const std::uint64_t page = (memory.address() + 4095) / 4096 * 4096;
    unsigned char* const host = memory.data() + (page - memory.address());
    std::copy(initial.begin(), initial.end(), host);
    DevicePtr mapped = 0;
    REQUIRE(world.cuda.mem_host_get_device_pointer(&mapped, host, 0) == Error::kSuccess);

    std::vector<KernelFragment> fragments = drawn_copy.fragments;
    for (KernelFragment& fragment : fragments) fragment.device += device.address + shift;
    const Stream stream = world.stream();
    world.sim.hold_stream(stream);
    const auto queued = kernels.copy_slots({.fragments = fragments,
                                            .fragment_bytes = drawn_copy.run_bytes,
                                            .device_step = drawn_copy.step,
                                            .host_base = mapped + shift,
                                            .host_stride = drawn_copy.stride,
                                            .slots = drawn_copy.slots,
                                            .to_device = to_device},
                                           max_blocks, stream);
    REQUIRE(queued.is_ok());
    CHECK(world.sim.next_text(stream) == "cuLaunchKernel: " + kernel);
    world.sim.release_stream(stream);
    REQUIRE(world.cuda.stream_synchronize(stream) == Error::kSuccess);

    const auto begin = static_cast<std::ptrdiff_t>(shift);
    Bytes device_tail(device.bytes.begin() + begin, device.bytes.end());
    Bytes host_tail(initial.begin() + begin, initial.end());
    drawn_copy.to(device_tail, host_tail, to_device);
    const Bytes after = device.now();
    CHECK((Bytes(after.begin() + begin, after.end()) == device_tail));
    CHECK((Bytes(host + begin, host + initial.size()) == host_tail));
    REQUIRE(world.cuda.stream_destroy(stream) == Error::kSuccess);
    REQUIRE(world.cuda.mem_free(device.address) == Error::kSuccess);
  }
}

std::string name_of(unsigned unit) {
  return "kvtier_copy_slots_" + std::to_string(unit);
}

}  // namespace

TEST_CASE("runs of every alignment are copied both ways by the widest kernel that they allow, and nothing else is") {
  std::mt19937_64 random(1);
  const KernelWorld kernel_world("host_pointers=0");
  const auto kernels = kernel_world.loaded();
  for (const std::uint64_t unit : {1U, 2U, 4U, 8U, 16U, 32U, 48U}) {
    for (const std::uint64_t units : {1U, 2U, 3U, 31U, 32U, 33U, 255U, 256U, 257U, 700U}) {
      CAPTURE(unit);
      CAPTURE(units);
      // Multiples of 4 and 8 that are no multiples of 16 for certain: they begin one unit beyond.
      const std::uint64_t odd = units * 2 + 1;
      const DrawnCopy drawn_copy(random, 3, 4, unit, odd);
      const unsigned wide = unit >= 16 ? 16 : unit == 2 ? 1 : static_cast<unsigned>(unit);
      check_copy(kernel_world, *kernels, random, drawn_copy, unit % 16, 3, name_of(wide));
    }
  }
}

TEST_CASE("the least aligned of all addresses, steps, offsets and lengths decides the kernel") {
  const std::vector<KernelSlots> slots = {{0, 0}};
  for (const std::uint64_t odd : {1U, 2U, 4U, 8U, 16U, 12U, 24U}) {
    for (std::size_t field = 0; field < 7; ++field) {
      CAPTURE(odd);
      CAPTURE(field);
      std::array<std::uint64_t, 7> values;
      values.fill(1 << 16);
      values[field] += odd;
      const std::vector<KernelFragment> fragments = {{values[0], values[1]}, {values[2], 0}};
      const SlotCopy copy{.fragments = fragments,
                          .fragment_bytes = values[3],
                          .device_step = values[4],
                          .host_base = values[5],
                          .host_stride = values[6],
                          .slots = slots};
      const std::uint64_t unit = odd & (~odd + 1);
      CHECK(CopyLaunches(copy).unit_bytes() == (unit == 2 ? 1 : unit));
    }
  }
}

TEST_CASE("any number of thread blocks copies the same bytes") {
  std::mt19937_64 random(2);
  const KernelWorld kernel_world;
  const auto kernels = kernel_world.loaded();
  for (const unsigned max_blocks : {1U, 2U, 12U, 100'000U}) {
    CAPTURE(max_blocks);
    check_copy(kernel_world, *kernels, random, DrawnCopy(random, 2, 5, 16, 1111), 0, max_blocks, name_of(16));
    check_copy(kernel_world, *kernels, random, DrawnCopy(random, 9, 40, 4, 5), 4, max_blocks, name_of(4));
  }
}

TEST_CASE("more fragments and slots than a launch takes are copied by several") {
  std::mt19937_64 random(3);
  const KernelWorld kernel_world;
  const auto kernels = kernel_world.loaded();
  const std::pair<std::uint32_t, std::uint32_t> counts[] = {{1, 504}, {1, 505},   {252, 2},  {253, 3},
                                                            {600, 1}, {130, 510}, {300, 300}};
  for (const auto& [fragments, slots] : counts) {
    CAPTURE(fragments);
    CAPTURE(slots);
    const std::uint64_t before = kernel_world.world.sim.calls("cuLaunchKernel");
    check_copy(kernel_world, *kernels, random, DrawnCopy(random, fragments, slots, 4, 3), 4, 8, name_of(4));
    const std::uint64_t launches = (kernel_world.world.sim.calls("cuLaunchKernel") - before) / 2;
    // A launch has room for 506 words: two a fragment, one a slot.
    const bool fits = 2 * fragments + slots <= 506;
    CHECK((launches == 1) == fits);
  }
}

TEST_CASE("copies are cut into few launches") {
  const auto launches_of = [](std::size_t fragment_count, std::size_t slot_count, std::uint64_t bytes) {
    const std::vector<KernelFragment> fragments(fragment_count);
    const std::vector<KernelSlots> slots(slot_count);
    const SlotCopy copy{.fragments = fragments, .fragment_bytes = bytes, .slots = slots};
    CopyLaunches launches(copy);
    kvtier::device::CopyLaunch launch;
    std::uint64_t runs = 0;
    std::size_t count = 0;
    while (launches.next(launch)) {
      ++count;
      runs += launch.items / launch.pieces;
      CHECK(launch.items < 1U << 31);
      CHECK(2 * launch.fragments + launch.items / launch.pieces / launch.fragments <= 506);
    }
    CHECK(runs == fragment_count * slot_count);
    return count;
  };
  CHECK(launches_of(0, 5, 16) == 0);
  CHECK(launches_of(5, 0, 16) == 0);
  CHECK(launches_of(1, 1, 1) == 1);
  CHECK(launches_of(64, 378, 32'768) == 1);
  CHECK(launches_of(160, 500, 32'768) == 3);
  CHECK(launches_of(1, 5000, 2 << 20) == 10);
  CHECK(launches_of(10'000, 1, 16) == 40);
  CHECK(launches_of(10'000, 1000, 16) <= 320);
  // So long runs that 32 bits count few of them.
  CHECK(launches_of(3, 100, std::uint64_t{1} << 37) == 5);
  CHECK(launches_of(3, 10, (std::uint64_t{1} << 37) + 1) == 10);
  CHECK(launches_of(5, 10, (std::uint64_t{1} << 37) + 1) == 20);
}

TEST_CASE("a launch has the thread blocks that it needs, as far as it may") {
  kvtier::device::CopyLaunch launch;
  launch.items = 9;
  launch.lanes = 32;
  CHECK(kvtier::blocks_of(launch, 1) == 1);
  CHECK(kvtier::blocks_of(launch, 12) == 2);
  launch.lanes = 1;
  CHECK(kvtier::blocks_of(launch, 12) == 1);
  // So many that 32 bits still number the threads.
  launch.items = (1U << 31) - 1;
  launch.lanes = 32;
  CHECK(kvtier::blocks_of(launch, ~0U) == 65'535);
}

TEST_CASE("a copy of nothing queues nothing") {
  const KernelWorld kernel_world("hold=1");
  const auto kernels = kernel_world.loaded();
  const Stream stream = kernel_world.world.stream();
  const std::vector<KernelFragment> fragments(1);
  const std::vector<KernelSlots> slots(1);
  CHECK(kernels->copy_slots({.fragments = fragments, .fragment_bytes = 1}, 1, stream).is_ok());
  CHECK(kernels->copy_slots({.fragment_bytes = 1, .slots = slots}, 1, stream).is_ok());
  CHECK(kernel_world.world.sim.pending(stream) == 0);
}

TEST_CASE("blocks of any device layout are gathered and scattered as copy_block() does it, a part at a time") {
  std::mt19937_64 random(4);
  const KernelWorld kernel_world;
  const auto& world = kernel_world.world;
  const auto kernels = kernel_world.loaded();
  const GroupShape shapes[] = {
      {.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 5, .bytes_per_token = 13},
      {.parts = 3, .layers = 2, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 64},
      {.parts = 2, .layers = 4, .outer = 1, .tokens_per_block = 16, .bytes_per_token = 576},
  };
  constexpr std::uint32_t kSlots = 5;
  for (const GroupShape& shape : shapes) {
    for (const LayoutKind kind : kKinds) {
      CAPTURE(kvtier::describe(shape));
      CAPTURE(static_cast<int>(kind));
      const SlotLayout device_layout = SlotLayout::make(kind, shape, kSlots).value();
      const SlotLayout host_layout = SlotLayout::make(LayoutKind::kContiguous, shape, kSlots).value();
      std::vector<DeviceBytes> regions;
      for (const std::uint64_t bytes : device_layout.region_bytes()) regions.emplace_back(world, random, bytes);
      Pinned host(host_layout.region_bytes()[0]);
      const auto initial = random_bytes<unsigned char>(random, host.size());
      std::copy(initial.begin(), initial.end(), host.data());

      // What copy_block() does with the same bytes in plain memory.
      std::vector<Bytes> device_bytes;
      std::vector<std::byte*> device_regions;
      for (const DeviceBytes& region : regions) device_bytes.push_back(region.bytes);
      for (Bytes& bytes : device_bytes) device_regions.push_back(reinterpret_cast<std::byte*>(bytes.data()));
      Bytes host_bytes = initial;
      std::byte* const host_region = reinterpret_cast<std::byte*>(host_bytes.data());
      const kvtier::SlotView on_device{&device_layout, device_regions.data()};
      const kvtier::SlotView on_host{&host_layout, &host_region};
      kvtier::copy_block(on_device, 4, on_host, 0, kvtier::Stores::kCached);
      kvtier::copy_block(on_device, 1, on_host, 3, kvtier::Stores::kCached);
      kvtier::copy_block(on_host, 2, on_device, 0, kvtier::Stores::kCached);

      // The kernels': runs of a kind together, those of the last part first.
      std::vector<KernelFragment> fragments;
      std::uint64_t offset = 0;
      for (const kvtier::Fragment& fragment : device_layout.fragments()) {
        fragments.push_back({regions[fragment.region].address + fragment.offset, offset});
        offset += fragment.length;
      }
      std::reverse(fragments.begin(), fragments.end());
      const kvtier::Fragment& first = device_layout.fragments()[0];
      SlotCopy copy{.fragments = fragments,
                    .fragment_bytes = first.length,
                    .device_step = first.step,
                    .host_base = host.address(),
                    .host_stride = shape.slot_stride()};
      const Stream stream = world.stream();
      const KernelSlots offloaded[] = {{4, 0}, {1, 3}};
      const KernelSlots onboarded[] = {{0, 2}};
      copy.slots = offloaded;
      REQUIRE(kernels->copy_slots(copy, 4, stream).is_ok());
      copy.slots = onboarded;
      copy.to_device = true;
      REQUIRE(kernels->copy_slots(copy, 4, stream).is_ok());
      REQUIRE(world.cuda.stream_synchronize(stream) == Error::kSuccess);
      CHECK((Bytes(host.data(), host.data() + host.size()) == host_bytes));
      for (std::size_t i = 0; i < regions.size(); ++i) CHECK((regions[i].now() == device_bytes[i]));
      for (const DeviceBytes& region : regions) REQUIRE(world.cuda.mem_free(region.address) == Error::kSuccess);
      REQUIRE(world.cuda.stream_destroy(stream) == Error::kSuccess);
    }
  }
}
