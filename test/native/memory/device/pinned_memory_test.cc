// Host memory that is registered with the driver part by part, on the simulated driver.
#if defined(__linux__)
#include "memory/device/pinned_memory.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "native/memory/device/device_world.h"
#include "native/memory/pages.h"

using kvtier::Code;
using kvtier::CurrentContext;
using kvtier::HostBuffer;
using kvtier::kPage;
using kvtier::PinnedMemory;
using kvtier::PinnedOptions;
using kvtier::PinnedPart;
using kvtier::resident_pages;
using kvtier::cuda::Error;
using kvtier::sim::contains;
using kvtier::sim::DeviceWorld;

namespace {

constexpr std::size_t kStride = 3 * kPage;
constexpr std::uint32_t kSlots = 20;
constexpr std::size_t kBytes = kSlots * kStride;
// Three slots first, then four a part: 3 + 4 + 4 + 4 + 4 + 1.
constexpr PinnedOptions kOptions{.first_part_bytes = 4 * kStride - 1, .part_bytes = 4 * kStride};
constexpr std::uint32_t kParts = 6;

std::uint32_t part_index_of(std::uint32_t slot) {
  return slot < 3 ? 0 : 1 + (slot - 3) / 4;
}

std::shared_ptr<HostBuffer> untouched(std::size_t size = kBytes) {
  return std::make_shared<HostBuffer>(kvtier::untouched_buffer(size));
}

std::unique_ptr<PinnedMemory> pinned(DeviceWorld& world, const std::shared_ptr<HostBuffer>& buffer) {
  auto memory = PinnedMemory::make(world.context(), buffer, kBytes, kStride, kOptions);
  REQUIRE(memory.is_ok());
  return std::move(memory).value();
}

}  // namespace

TEST_CASE("every slot lies in a registered part in the end, and parts end where slots end") {
  DeviceWorld world;
  const auto buffer = untouched();
  {
    const auto memory = pinned(world, buffer);
    CHECK(memory->wait().is_ok());
    CHECK(memory->wait().is_ok());
    CHECK(memory->registered_bytes() == kBytes);
    CHECK(world.sim.count("registrations") == kParts);
    CHECK(resident_pages(buffer->data(), kBytes) == kBytes / kPage);
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      const PinnedPart part = memory->part_of(slot);
      CHECK(part.index == part_index_of(slot));
      CHECK(part.is_registered);
      CHECK(part.device_address == reinterpret_cast<std::uint64_t>(buffer->data()) + slot * kStride);
    }
  }
  CHECK(world.sim.count("registrations") == 0);
}

TEST_CASE("the device's addresses are the driver's where they are not the host's") {
  DeviceWorld world("host_pointers=0");
  const auto buffer = untouched();
  const auto memory = pinned(world, buffer);
  REQUIRE(memory->wait().is_ok());
  const auto current = CurrentContext::enter(*world.context());
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    kvtier::cuda::DevicePtr expected = 0;
    REQUIRE(world.cuda.mem_host_get_device_pointer(&expected, buffer->data() + slot * kStride, 0) == Error::kSuccess);
    CHECK(memory->part_of(slot).device_address == expected);
    CHECK(expected != reinterpret_cast<std::uint64_t>(buffer->data()) + slot * kStride);
  }
}

TEST_CASE("the first part is there at once; one that cannot be registered stays so, and is not tried again") {
  DeviceWorld world;
  const auto buffer = untouched();
  // Of the parts after the first, all.
  world.sim.fail_call("cuMemHostRegister", 2, static_cast<int>(Error::kOutOfMemory), 0);
  const auto memory = pinned(world, buffer);
  CHECK(memory->part_of(0).is_registered);
  CHECK(memory->registered_bytes() == 3 * kStride);
  const kvtier::Status failed = memory->wait();
  CHECK(failed.code() == Code::kOutOfMemory);
  CHECK(contains(failed.message(), "cuMemHostRegister for 49152 bytes of host memory (part 2 of 6) on device 0"));
  CHECK(world.sim.calls("cuMemHostRegister") == kParts);
  CHECK(memory->registered_bytes() == 3 * kStride);
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const PinnedPart part = memory->part_of(slot);
    CHECK(part.index == part_index_of(slot));
    CHECK(part.is_registered == (slot < 3));
    CHECK((part.device_address != 0) == (slot < 3));
  }
  // What is not registered was touched all the same.
  CHECK(resident_pages(buffer->data(), kBytes) == kBytes / kPage);
}

TEST_CASE("a part that fails leaves the ones after it to be registered") {
  for (const char* function : {"cuMemHostRegister", "cuMemHostGetDevicePointer"}) {
    CAPTURE(function);
    DeviceWorld world;
    world.sim.fail_call(function, 3, static_cast<int>(Error::kUnknown), 1);
    const auto memory = pinned(world, untouched());
    CHECK(memory->wait().code() == Code::kIo);
    CHECK(memory->registered_bytes() == kBytes - 4 * kStride);
    CHECK(world.sim.count("registrations") == kParts - 1);
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      CHECK(memory->part_of(slot).is_registered == (part_index_of(slot) != 2));
    }
  }
}

TEST_CASE("without its first part there is no pinned memory, whichever call fails, and the buffer stays as it was") {
  DeviceWorld world("pinned=32K");
  const auto buffer = untouched();
  buffer->data()[5] = std::byte{42};
  const auto refused = PinnedMemory::make(world.context(), buffer, kBytes, kStride, kOptions);
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(contains(refused.status().message(), "36864 bytes"));
  world.sim.set("pinned=1G");
  for (const char* function : {"cuMemHostRegister", "cuMemHostGetDevicePointer", "cuCtxGetCurrent"}) {
    world.sim.fail_call(function, 1, static_cast<int>(Error::kUnknown), 1);
    CHECK(PinnedMemory::make(world.context(), buffer, kBytes, kStride, kOptions).status().code() == Code::kIo);
    CHECK(world.sim.count("registrations") == 0);
  }
  CHECK(buffer->data()[5] == std::byte{42});
  CHECK(PinnedMemory::make(world.context(), buffer, kBytes, kStride, kOptions).is_ok());
}

TEST_CASE("a thread that gets no context registers nothing more, and says so") {
  DeviceWorld world;
  // The first sets it for the first part, the second gives it back, the third is the thread's.
  world.sim.fail_call("cuCtxSetCurrent", 3, static_cast<int>(Error::kUnknown), 1);
  const auto memory = pinned(world, untouched());
  CHECK(memory->wait().code() == Code::kIo);
  CHECK(memory->registered_bytes() == 3 * kStride);
}

TEST_CASE("memory goes while its parts are being registered, and the buffer stays for others") {
  DeviceWorld world;
  const auto buffer = untouched();
  std::memset(buffer->data(), 0xAB, kBytes);
  for (int round = 0; round < 20; ++round) {
    (void)pinned(world, buffer);
    CHECK(world.sim.count("registrations") == 0);
  }
  for (const std::size_t at : {std::size_t{0}, kBytes / 2, kBytes - 1}) CHECK(buffer->data()[at] == std::byte{0xAB});
}

// Whether anything else can have these addresses.
bool are_free(std::byte* address) {
  void* const got =
      ::mmap(address, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return false;
  ::munmap(got, kPage);
  return got == address;
}

TEST_CASE("what is not unregistered is tried once more, and where it stays so, nothing else gets the addresses") {
  for (const std::uint64_t times : {0U, 1U, 2U}) {
    CAPTURE(times);
    DeviceWorld world;
    world.may_leak = times == 2;
    auto buffer = untouched();
    std::byte* const address = buffer->data();
    auto memory = pinned(world, buffer);
    CHECK(memory->wait().is_ok());
    if (times > 0) world.sim.fail_call("cuMemHostUnregister", 1, static_cast<int>(Error::kUnknown), times);
    memory.reset();
    CHECK(world.sim.count("registrations") == (times == 2 ? 1 : 0));
    buffer.reset();
    CHECK(are_free(address) == (times < 2));
  }
}

TEST_CASE("a part that cannot be used and not be unregistered keeps its addresses from others, too") {
  DeviceWorld world;
  world.may_leak = true;
  auto buffer = untouched();
  std::byte* const address = buffer->data();
  world.sim.fail_call("cuMemHostGetDevicePointer", 1, static_cast<int>(Error::kUnknown), 1);
  world.sim.fail_call("cuMemHostUnregister", 1, static_cast<int>(Error::kUnknown), 2);
  CHECK(!PinnedMemory::make(world.context(), buffer, kBytes, kStride, kOptions).is_ok());
  buffer.reset();
  CHECK(!are_free(address));
}

TEST_CASE("a device that is lost ends the registering, and memory goes without it") {
  DeviceWorld world;
  world.may_leak = true;
  const auto buffer = untouched();
  world.sim.fail_call("cuMemHostRegister", 3, static_cast<int>(Error::kEccUncorrectable), 0);
  auto memory = pinned(world, buffer);
  CHECK(memory->wait().code() == Code::kDeviceLost);
  CHECK(world.sim.calls("cuMemHostRegister") == 3);
  world.sim.lose_device(0, static_cast<int>(Error::kEccUncorrectable));
  memory.reset();
  CHECK(buffer->data()[0] == std::byte{0});
}

TEST_CASE("the driver copies registered slots by itself, and the others through its own buffers") {
  DeviceWorld world;
  const auto buffer = untouched();
  const auto device = world.allocate(kStride);
  world.fill(device, kStride, 7);
  world.sim.fail_call("cuMemHostRegister", 2, static_cast<int>(Error::kOutOfMemory), 1);
  const auto memory = pinned(world, buffer);
  CHECK_FALSE(memory->wait().is_ok());
  const auto current = CurrentContext::enter(*world.context());
  kvtier::cuda::Stream stream = nullptr;
  REQUIRE(world.cuda.stream_create_with_priority(&stream, kvtier::cuda::kStreamNonBlocking, 0) == Error::kSuccess);
  std::uint64_t pageable = 0;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    std::byte* const address = buffer->data() + slot * kStride;
    REQUIRE(world.cuda.memcpy_dtoh_async(address, device, kStride, stream) == Error::kSuccess);
    pageable += memory->part_of(slot).is_registered ? 0 : 1;
    CHECK(world.sim.count("pageable_copies") == pageable);
  }
  REQUIRE(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  CHECK(pageable == 4);
  for (std::size_t at = 0; at < kBytes; at += kStride / 4) CHECK(buffer->data()[at] == std::byte{7});
  REQUIRE(world.cuda.stream_destroy(stream) == Error::kSuccess);
}

TEST_CASE("memory is registered for every device of the process") {
  DeviceWorld world;
  const auto buffer = untouched();
  const auto memory = pinned(world, buffer);
  REQUIRE(memory->wait().is_ok());
  const auto device = world.allocate(kStride, 1);
  const auto current = CurrentContext::enter(*world.context(1));
  kvtier::cuda::Stream stream = nullptr;
  REQUIRE(world.cuda.stream_create_with_priority(&stream, kvtier::cuda::kStreamNonBlocking, 0) == Error::kSuccess);
  REQUIRE(world.cuda.memcpy_dtoh_async(buffer->data(), device, kStride, stream) == Error::kSuccess);
  REQUIRE(world.cuda.stream_destroy(stream) == Error::kSuccess);
  CHECK(world.sim.count("pageable_copies") == 0);
  world.sim.step_any(SIZE_MAX);
}

TEST_CASE("slots are asked for while parts are being registered, and a part that is registered stays so") {
  DeviceWorld world;
  const auto buffer = untouched();
  const auto memory = pinned(world, buffer);
  std::atomic<bool> ends{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&] {
      std::vector<bool> seen(kSlots, false);
      while (!ends.load()) {
        for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
          const PinnedPart part = memory->part_of(slot);
          const auto address = reinterpret_cast<std::uint64_t>(buffer->data()) + slot * kStride;
          if (part.device_address != (part.is_registered ? address : 0)) ++wrong;
          if (seen[slot] && !part.is_registered) ++wrong;
          seen[slot] = part.is_registered;
        }
      }
    });
  }
  CHECK(memory->wait().is_ok());
  ends.store(true);
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong.load() == 0);
}

TEST_CASE("one part is enough for few slots, and no part is smaller than a slot") {
  DeviceWorld world;
  const auto buffer = untouched();
  {
    const auto memory = PinnedMemory::make(world.context(), buffer, 2 * kStride, kStride);
    REQUIRE(memory.is_ok());
    CHECK(memory.value()->wait().is_ok());
    CHECK(world.sim.count("registrations") == 1);
    CHECK(memory.value()->part_of(1).is_registered);
  }
  const auto memory = PinnedMemory::make(world.context(), buffer, 4 * kStride, kStride,
                                         {.first_part_bytes = 0, .part_bytes = 1, .touch_threads = 0});
  REQUIRE(memory.is_ok());
  CHECK(memory.value()->wait().is_ok());
  CHECK(world.sim.count("registrations") == 4);
  for (std::uint32_t slot = 0; slot < 4; ++slot) CHECK(memory.value()->part_of(slot).index == slot);
}

TEST_CASE("sizes that are no whole slots of whole pages in the buffer are refused") {
  DeviceWorld world;
  const auto buffer = untouched();
  const auto code_of = [&](std::uint64_t size_bytes, std::uint64_t slot_stride) {
    return PinnedMemory::make(world.context(), buffer, size_bytes, slot_stride).status().code();
  };
  CHECK(code_of(kBytes, 0) == Code::kInvalidValue);
  CHECK(code_of(kBytes, 1000) == Code::kInvalidValue);
  CHECK(code_of(0, kStride) == Code::kInvalidValue);
  CHECK(code_of(kBytes - kPage, kStride) == Code::kInvalidValue);
  CHECK(code_of(kBytes + kStride, kStride) == Code::kInvalidValue);
  CHECK(code_of(kBytes, kStride) == Code::kOk);
}

TEST_CASE("a child of fork does not have registered memory") {
  DeviceWorld world;
  const auto buffer = untouched();
  const auto memory = pinned(world, buffer);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    unsigned char resident = 0;
    ::_exit(::mincore(buffer->data(), kPage, &resident) == 0 ? 1 : 2);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 2);
}
#endif
