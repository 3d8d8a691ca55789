// Ranges of a GPU's memory, allocated and borrowed, on the simulated driver. Those of another process are tested in
// ipc_memory_test.cc.
#if defined(__linux__)
#include "memory/device/device_memory.h"

#include <cstring>
#include <utility>
#include <vector>

#include "native/memory/device/device_world.h"

using kvtier::Code;
using kvtier::CurrentContext;
using kvtier::DeviceMemory;
using kvtier::read_ipc_handle;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Error;
using kvtier::sim::contains;
using kvtier::sim::DeviceWorld;

namespace {

constexpr std::size_t kBytes = 100000;

kvtier::cuda::Context current_context(const DeviceWorld& world) {
  kvtier::cuda::Context current = nullptr;
  REQUIRE(world.cuda.ctx_get_current(&current) == Error::kSuccess);
  return current;
}

void lose_device(const DeviceWorld& world) {
  world.sim.lose_device(0, static_cast<int>(Error::kEccUncorrectable));
}

}  // namespace

TEST_CASE("memory is allocated on its device and freed at the end, and no thread keeps another current context") {
  DeviceWorld world;
  for (const int ordinal : {0, 1}) {
    auto memory = DeviceMemory::allocate(world.context(ordinal), kBytes);
    REQUIRE(memory.is_ok());
    CHECK(memory.value().size_bytes() == kBytes);
    CHECK(memory.value().context() == world.context(ordinal));
    CHECK_FALSE(memory.value().is_borrowed());
    CHECK(memory.value().allocation_id() == 0);
    CHECK(memory.value().check().is_ok());
    world.fill(memory.value().address(), kBytes, 7);
    CHECK(world.sim.count("allocations") == 1);
    const auto current = CurrentContext::enter(*world.context(ordinal));
    int found = -1;
    CHECK(world.cuda.pointer_get_attribute(&found, kvtier::cuda::PointerAttribute::kDeviceOrdinal,
                                           memory.value().address()) == Error::kSuccess);
    CHECK(found == ordinal);
  }
  CHECK(world.sim.count("allocations") == 0);
  CHECK(current_context(world) == nullptr);
}

TEST_CASE("memory that is moved is freed once, and what an assignment replaces is freed then") {
  DeviceWorld world;
  auto first = DeviceMemory::allocate(world.context(), kBytes);
  auto second = DeviceMemory::allocate(world.context(), kBytes);
  REQUIRE(first.is_ok());
  REQUIRE(second.is_ok());
  const DevicePtr address = first.value().address();
  {
    DeviceMemory moved = std::move(first).value();
    CHECK(moved.address() == address);
    CHECK(world.sim.count("allocations") == 2);
    second.value() = std::move(moved);
    CHECK(world.sim.count("allocations") == 1);
  }
  CHECK(second.value().address() == address);
  world.fill(address, kBytes, 1);
}

TEST_CASE("no memory, and more than is free, is refused with what was asked and what there was") {
  DeviceWorld world("memory=1M");
  CHECK(DeviceMemory::allocate(world.context(), 0).status().code() == Code::kInvalidValue);
  const auto held = DeviceMemory::allocate(world.context(), 256 << 10);
  REQUIRE(held.is_ok());
  const auto refused = DeviceMemory::allocate(world.context(), 1 << 20);
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(contains(refused.status().message(), "cuMemAlloc of 1048576 bytes on device 0"));
  CHECK(contains(refused.status().message(), "786432 of its 1048576 bytes are free"));
  // The driver need not know what is free.
  world.sim.fail_call("cuMemGetInfo", 1, static_cast<int>(Error::kUnknown), 1);
  CHECK(DeviceMemory::allocate(world.context(), 1 << 20).status().code() == Code::kOutOfMemory);
  CHECK(world.sim.count("allocations") == 1);
}

TEST_CASE("every call of an allocation that fails is a status, and nothing is left") {
  DeviceWorld world;
  (void)world.context();
  CHECK(world.fail_each({"cuMemAlloc"}, [&] { return DeviceMemory::allocate(world.context(), kBytes).is_ok(); }) == 1);
  for (const char* function : {"cuCtxGetCurrent", "cuCtxSetCurrent"}) {
    world.sim.fail_call(function, 1, static_cast<int>(Error::kUnknown), 1);
    CHECK(DeviceMemory::allocate(world.context(), kBytes).status().code() == Code::kIo);
  }
}

TEST_CASE("a device that is lost gives no memory, and giving back what it had neither fails nor hangs") {
  DeviceWorld world;
  world.may_leak = true;
  const auto held = DeviceMemory::allocate(world.context(), kBytes);
  const auto borrowed = DeviceMemory::borrow(world.context(), held.value().address(), kBytes);
  REQUIRE(borrowed.is_ok());
  lose_device(world);
  CHECK(DeviceMemory::allocate(world.context(), kBytes).status().code() == Code::kDeviceLost);
  CHECK(DeviceMemory::borrow(world.context(), held.value().address(), kBytes).status().code() == Code::kDeviceLost);
  CHECK(borrowed.value().check().code() == Code::kDeviceLost);
  CHECK(held.value().share().status().code() == Code::kDeviceLost);
}

TEST_CASE("ranges of an engine's allocation are borrowed, know their allocation, and leave it to the engine") {
  DeviceWorld world;
  const DevicePtr engine = world.allocate(kBytes);
  const DevicePtr other = world.allocate(kBytes);
  {
    const auto all = DeviceMemory::borrow(world.context(), engine, kBytes);
    const auto middle = DeviceMemory::borrow(world.context(), engine + 1000, 500);
    const auto end = DeviceMemory::borrow(world.context(), engine + kBytes - 1, 1);
    const auto elsewhere = DeviceMemory::borrow(world.context(), other, kBytes);
    REQUIRE(all.is_ok());
    REQUIRE(middle.is_ok());
    REQUIRE(end.is_ok());
    REQUIRE(elsewhere.is_ok());
    CHECK(middle.value().address() == engine + 1000);
    CHECK(middle.value().size_bytes() == 500);
    CHECK(all.value().is_borrowed());
    CHECK(all.value().allocation_id() == middle.value().allocation_id());
    CHECK(all.value().allocation_id() == end.value().allocation_id());
    CHECK(all.value().allocation_id() != elsewhere.value().allocation_id());
    CHECK(all.value().allocation_id() != 0);
    CHECK(middle.value().check().is_ok());
  }
  CHECK(world.sim.count("allocations") == 2);
  CHECK(current_context(world) == nullptr);
}

TEST_CASE("what is no range of a device's allocation is not borrowed, and the message says why") {
  DeviceWorld world;
  const DevicePtr engine = world.allocate(kBytes);
  const DevicePtr second = world.allocate(kBytes, 1);
  const auto refused = [&](DevicePtr address, std::uint64_t size_bytes, const char* why) {
    const auto memory = DeviceMemory::borrow(world.context(), address, size_bytes);
    CAPTURE(why);
    CHECK(memory.status().code() == Code::kInvalidValue);
    CHECK_MESSAGE(contains(memory.status().message(), why), memory.status().message());
  };
  refused(engine, 0, "0 bytes");
  refused(engine, kBytes + 1, "the allocation has 100000 bytes, of which 100000 follow the address");
  refused(engine + 100, kBytes - 99, "of which 99900 follow the address");
  refused(engine + 100, ~std::uint64_t{0}, "of which 99900 follow the address");
  refused(engine + 100, ~std::uint64_t{0} - 99, "of which 99900 follow the address");
  refused(second, kBytes, "lies on device 1");
  refused(0, 1, "knows no memory");
  std::vector<unsigned char> host(kBytes);
  refused(reinterpret_cast<DevicePtr>(host.data()), 1, "knows no memory");
  {
    const auto current = CurrentContext::enter(*world.context());
    REQUIRE(world.cuda.mem_host_register(host.data(), kBytes, kvtier::cuda::kHostRegisterDeviceMap) == Error::kSuccess);
    refused(reinterpret_cast<DevicePtr>(host.data()), 1, "not a device's");
    REQUIRE(world.cuda.mem_host_unregister(host.data()) == Error::kSuccess);
  }
  world.free(engine);
  refused(engine, kBytes, "knows no memory");
}

TEST_CASE("every call of a borrowing, of a check and of a sharing that fails is a status") {
  DeviceWorld world;
  const DevicePtr engine = world.allocate(kBytes);
  const auto borrow = [&] { return DeviceMemory::borrow(world.context(), engine, kBytes).is_ok(); };
  CHECK(world.fail_each({"cuPointerGetAttribute", "cuCtxGetCurrent"}, borrow) == 6);
  const auto borrowed = DeviceMemory::borrow(world.context(), engine, kBytes);
  REQUIRE(borrowed.is_ok());
  CHECK(world.fail_each({"cuPointerGetAttribute", "cuCtxGetCurrent"},
                        [&] { return borrowed.value().check().is_ok(); }) == 2);
  CHECK(world.fail_each({"cuIpcGetMemHandle", "cuCtxGetCurrent"}, [&] { return borrowed.value().share().is_ok(); }) ==
        2);
}

TEST_CASE("a check finds that borrowed memory was freed, and that another allocation has its addresses") {
  DeviceWorld world("reuse=1");
  const DevicePtr engine = world.allocate(kBytes);
  const auto memory = DeviceMemory::borrow(world.context(), engine + 100, 200);
  REQUIRE(memory.is_ok());
  CHECK(memory.value().check().is_ok());
  world.free(engine);
  const kvtier::Status freed = memory.value().check();
  CHECK(freed.code() == Code::kInvalidValue);
  CHECK(contains(freed.message(), "200 bytes"));
  CHECK(contains(freed.message(), "it was freed"));
  REQUIRE(world.allocate(kBytes) == engine);
  const kvtier::Status replaced = memory.value().check();
  CHECK(replaced.code() == Code::kInvalidValue);
  CHECK(contains(replaced.message(), "another allocation has its addresses now"));
}

TEST_CASE("memory is shared as its allocation's handle and where it lies in that") {
  DeviceWorld world;
  const DevicePtr engine = world.allocate(kBytes);
  const auto all = DeviceMemory::borrow(world.context(), engine, kBytes);
  const auto middle = DeviceMemory::borrow(world.context(), engine + 1000, 500);
  const auto shared = all.value().share();
  const auto part = middle.value().share();
  REQUIRE(shared.is_ok());
  REQUIRE(part.is_ok());
  CHECK(shared.value().offset == 0);
  CHECK(shared.value().size_bytes == kBytes);
  CHECK(part.value().offset == 1000);
  CHECK(part.value().size_bytes == 500);
  CHECK(part.value().owner == ::getpid());
  CHECK(part.value().handle.bytes == shared.value().handle.bytes);
  const auto owned = DeviceMemory::allocate(world.context(), kBytes);
  CHECK(owned.value().share().is_ok());
}

TEST_CASE("memory that legacy IPC cannot share is refused with the reason, whether or not the driver tells before") {
  DeviceWorld world;
  const auto memory = DeviceMemory::allocate(world.context(), kBytes);
  REQUIRE(memory.is_ok());
  world.sim.set_ipc_capable(memory.value().address(), 0);
  const auto refused = memory.value().share();
  CHECK(refused.status().code() == Code::kUnsupported);
  CHECK(contains(refused.status().message(), "expandable_segments"));
  // The sixth attribute that is asked for is whether it can be shared.
  world.sim.fail_call("cuPointerGetAttribute", 6, static_cast<int>(Error::kInvalidValue), 1);
  CHECK(memory.value().share().status().code() == Code::kUnsupported);
}

TEST_CASE("a handle is read from 64 bytes, or from what PyTorch gives for memory of cudaMalloc") {
  std::vector<std::byte> handle(64);
  for (std::size_t i = 0; i < handle.size(); ++i) handle[i] = static_cast<std::byte>(i + 1);
  const auto plain = read_ipc_handle(handle.data(), handle.size());
  REQUIRE(plain.is_ok());
  CHECK(std::memcmp(plain.value().bytes.data(), handle.data(), 64) == 0);
  std::vector<std::byte> pytorch = {std::byte{2}, std::byte{'c'}};
  pytorch.insert(pytorch.end(), handle.begin(), handle.end());
  const auto read = read_ipc_handle(pytorch.data(), pytorch.size());
  REQUIRE(read.is_ok());
  CHECK(read.value().bytes == plain.value().bytes);
}

TEST_CASE("a handle of an expandable segment is refused with the reason, and what is no handle as such") {
  std::vector<std::byte> bytes(66);
  const auto refused = [&](unsigned char version, char kind, std::size_t length) {
    bytes[0] = std::byte{version};
    bytes[1] = static_cast<std::byte>(kind);
    return read_ipc_handle(bytes.data(), length).status();
  };
  for (const std::size_t length : {std::size_t{3}, std::size_t{30}, std::size_t{66}}) {
    const kvtier::Status expandable = refused(2, 'e', length);
    CHECK(expandable.code() == Code::kUnsupported);
    CHECK(contains(expandable.message(), "expandable_segments"));
  }
  CHECK(refused(2, 'c', 65).code() == Code::kInvalidValue);
  CHECK(refused(3, 'c', 66).code() == Code::kInvalidValue);
  CHECK(refused(3, 'e', 66).code() == Code::kInvalidValue);
  CHECK(refused(2, 'x', 66).code() == Code::kInvalidValue);
  CHECK(refused(2, 'e', 2).code() == Code::kInvalidValue);
  CHECK(refused(2, 'e', 1).code() == Code::kInvalidValue);
  const kvtier::Status empty = read_ipc_handle(nullptr, 0).status();
  CHECK(empty.code() == Code::kInvalidValue);
  CHECK(contains(empty.message(), "0 bytes"));
  CHECK(contains(refused(2, 'c', 65).message(), "65 bytes, the first of them 2"));
}
#endif
