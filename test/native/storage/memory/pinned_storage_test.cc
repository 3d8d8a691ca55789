// Host slots that are registered with the driver, on the simulated driver.
#if defined(__linux__)
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/pattern.h"
#include "native/memory/device/device_world.h"
#include "platform/system_memory.h"
#include "storage/memory/memory_storage.h"

using kvtier::Checksum;
using kvtier::Code;
using kvtier::GroupShape;
using kvtier::LayoutKind;
using kvtier::MemoryStorage;
using kvtier::SequenceHash;
using kvtier::sim::contains;
using kvtier::sim::DeviceWorld;

namespace {

const GroupShape kShape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 100};
// Slots of whole huge pages, so that touching them does not touch the checksums after them.
constexpr std::uint32_t kSlots = 512;

std::unique_ptr<MemoryStorage> allocated(DeviceWorld& world) {
  auto storage = MemoryStorage::allocate_pinned(LayoutKind::kContiguous, kShape, kSlots, world.context(),
                                                {.first_part_bytes = 16 * 8192, .part_bytes = 64 * 8192});
  REQUIRE(storage.is_ok());
  return std::move(storage).value();
}

bool is_resident(const void* data, std::size_t length) {
  std::vector<unsigned char> resident(length / 4096);
  REQUIRE(::mincore(const_cast<void*>(data), length, resident.data()) == 0);
  return std::ranges::all_of(resident, [](unsigned char page) { return (page & 1) != 0; });
}

}  // namespace

TEST_CASE("pinned slots are those of any memory storage, and their parts are known") {
  DeviceWorld world;
  const auto storage = allocated(world);
  CHECK(storage->info().slot_stride == 8192);
  CHECK(storage->info().host_addressable);
  CHECK_FALSE(storage->info().on_device);
  REQUIRE(storage->pinned() != nullptr);
  CHECK(storage->pinned()->part_of(15).index == 0);
  CHECK(storage->pinned()->part_of(16).index == 1);
  CHECK(storage->pinned()->part_of(0).is_registered);
  REQUIRE(storage->pinned()->wait().is_ok());
  CHECK(storage->pinned()->registered_bytes() == kSlots * 8192);
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const SequenceHash hash{static_cast<std::uint8_t>(slot), static_cast<std::uint8_t>(slot >> 8U)};
    kvtier::fill_pattern(storage->view(), slot, hash);
    CHECK(storage->pinned()->part_of(slot).device_address ==
          reinterpret_cast<std::uint64_t>(storage->view().regions[0] + std::size_t{slot} * 8192));
    storage->set_checksum(slot, Checksum{std::uint8_t(slot + 1)});
  }
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const SequenceHash hash{static_cast<std::uint8_t>(slot), static_cast<std::uint8_t>(slot >> 8U)};
    CHECK(kvtier::check_pattern(storage->view(), slot, hash));
    CHECK((storage->checksum_at(slot) == Checksum{std::uint8_t(slot + 1)}));
  }
}

TEST_CASE("checksums are touched when the storage is there, and lie outside of what is registered") {
  DeviceWorld world;
  const auto storage = allocated(world);
  const std::byte* const checksums = storage->view().regions[0] + kSlots * 8192;
  REQUIRE(storage->share_memory()->data() + storage->share_memory()->size() == checksums + kSlots * sizeof(Checksum));
  CHECK(is_resident(checksums, kSlots * sizeof(Checksum)));
  REQUIRE(storage->pinned()->wait().is_ok());
  CHECK(is_resident(storage->view().regions[0], kSlots * 8192));
  const auto current = kvtier::CurrentContext::enter(*world.context());
  kvtier::cuda::DevicePtr device = 0;
  CHECK(world.cuda.mem_host_get_device_pointer(&device, const_cast<std::byte*>(checksums), 0) ==
        kvtier::cuda::Error::kInvalidValue);
}

TEST_CASE("memory that is shared outlives its storage, and is not registered any more then") {
  DeviceWorld world;
  auto storage = allocated(world);
  std::byte* const bytes = storage->view().regions[0];
  bytes[100] = std::byte{42};
  const std::shared_ptr<kvtier::HostBuffer> share = storage->share_memory();
  CHECK(world.sim.count("registrations") > 0);
  storage.reset();
  CHECK(world.sim.count("registrations") == 0);
  CHECK(bytes[100] == std::byte{42});
}

TEST_CASE("slots that are not contiguous, and a bad shape, are not pinned; other storages have no parts") {
  DeviceWorld world;
  const auto code_of = [&](LayoutKind kind, const GroupShape& shape, std::uint32_t slots) {
    return MemoryStorage::allocate_pinned(kind, shape, slots, world.context()).status().code();
  };
  CHECK(code_of(LayoutKind::kLayersKvInner, kShape, kSlots) == Code::kInvalidValue);
  CHECK(code_of(LayoutKind::kLayersKvOuter, kShape, kSlots) == Code::kInvalidValue);
  const GroupShape pages{.parts = 1, .layers = 2, .outer = 1, .tokens_per_block = 4, .bytes_per_token = 1024};
  CHECK(code_of(LayoutKind::kLayersKvInner, pages, kSlots) == Code::kInvalidValue);
  CHECK(code_of(LayoutKind::kContiguous, GroupShape{}, kSlots) == Code::kInvalidValue);
  CHECK(code_of(LayoutKind::kContiguous, kShape, 0) == Code::kInvalidValue);
  const GroupShape large{.parts = 1, .layers = 1024, .outer = 2, .tokens_per_block = 512, .bytes_per_token = 1024};
  const auto refused = MemoryStorage::allocate_pinned(LayoutKind::kContiguous, large, (1U << 31) - 1, world.context());
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(contains(refused.status().message(), "available"));
  const auto plain = MemoryStorage::allocate(LayoutKind::kContiguous, kShape, 5, {});
  REQUIRE(plain.is_ok());
  CHECK(plain.value()->pinned() == nullptr);
}

TEST_CASE("more than the machine has free is refused at once, not when the background comes to it") {
  DeviceWorld world;
  // Between what is free and what there is: a machine that overcommits gives addresses for that.
  const kvtier::SystemMemory memory = kvtier::system_memory();
  const std::uint64_t available = memory.available_bytes.value_or(memory.total_bytes);
  const std::uint64_t size = available + (memory.total_bytes - available) / 2;
  if (size < available + (std::uint64_t{64} << 20)) {
    MESSAGE("skipped: all of this machine's memory is free");
    return;
  }
  const GroupShape shape{.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 64, .bytes_per_token = 16384};
  const auto refused = MemoryStorage::allocate_pinned(LayoutKind::kContiguous, shape,
                                                      static_cast<std::uint32_t>(size >> 20U), world.context());
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(contains(refused.status().message(), "available"));
  CHECK(world.sim.calls("cuMemHostRegister") == 0);
}

TEST_CASE("without its first part there is no pinned storage, and nothing is left") {
  DeviceWorld world("pinned=100K");
  const auto refused = MemoryStorage::allocate_pinned(LayoutKind::kContiguous, kShape, kSlots, world.context());
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(contains(refused.status().message(), "cuMemHostRegister"));
  CHECK(world.sim.count("registrations") == 0);
}
#endif
