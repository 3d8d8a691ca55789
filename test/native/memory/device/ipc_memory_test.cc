// Device memory of another process, on the simulated driver.
#if defined(__linux__)
#include <thread>
#include <utility>
#include <vector>

#include "memory/device/device_memory.h"
#include "native/memory/device/device_world.h"
#include "native/memory/device/lender.h"

using kvtier::Code;
using kvtier::CurrentContext;
using kvtier::DeviceMemory;
using kvtier::IpcRange;
using kvtier::cuda::Error;
using kvtier::sim::contains;
using kvtier::sim::DeviceWorld;
using kvtier::sim::kFree;
using kvtier::sim::kHoldsNines;
using kvtier::sim::kLentBytes;
using kvtier::sim::Lender;

namespace {

IpcRange part_of(const IpcRange& range, std::uint64_t offset, std::uint64_t size_bytes) {
  IpcRange part = range;
  part.offset = offset;
  part.size_bytes = size_bytes;
  return part;
}

IpcRange by_unknown(IpcRange range) {
  range.owner = 0;
  return range;
}

}  // namespace

TEST_CASE("another process's memory is read and written where the range says, and given back at the end") {
  DeviceWorld world;
  Lender lender;
  {
    const auto all = DeviceMemory::open(world.context(), lender.first);
    REQUIRE(all.is_ok());
    CHECK(all.value().is_borrowed());
    CHECK(all.value().size_bytes() == kLentBytes);
    CHECK(all.value().check().is_ok());
    CHECK(world.holds(all.value().address(), kLentBytes, 1));
    const auto part = DeviceMemory::open(world.context(), part_of(lender.second, 1000, 3000));
    REQUIRE(part.is_ok());
    CHECK(part.value().size_bytes() == 3000);
    CHECK(world.holds(part.value().address(), 3000, 2));
    CHECK(part.value().allocation_id() != all.value().allocation_id());
    world.fill(all.value().address(), kLentBytes, 9);
    CHECK(lender.order(kHoldsNines));
    const auto shared = all.value().share();
    CHECK(shared.status().code() == Code::kUnsupported);
    CHECK(contains(shared.status().message(), "another process's"));
  }
  CHECK(world.sim.count("imports") == 0);
  CHECK(lender.end() == 0);
}

TEST_CASE("ranges of one allocation share one mapping, which ends with the last of them and can be made again") {
  DeviceWorld world;
  Lender lender;
  for (int round = 0; round < 2; ++round) {
    const std::uint64_t before = world.sim.calls("cuIpcOpenMemHandle");
    auto first = DeviceMemory::open(world.context(), part_of(lender.first, 0, 1000));
    auto second = DeviceMemory::open(world.context(), part_of(lender.first, 5000, 1000));
    auto other = DeviceMemory::open(world.context(), lender.second);
    REQUIRE(first.is_ok());
    REQUIRE(second.is_ok());
    REQUIRE(other.is_ok());
    CHECK(second.value().address() == first.value().address() + 5000);
    CHECK(second.value().allocation_id() == first.value().allocation_id());
    CHECK(world.sim.calls("cuIpcOpenMemHandle") - before == 2);
    CHECK(world.sim.count("imports") == 2);
    DeviceMemory kept = std::move(second).value();
    first.value() = std::move(other).value();
    CHECK(world.sim.count("imports") == 2);
    CHECK(world.holds(kept.address(), 1000, 1));
    kept = std::move(first).value();
    CHECK(world.sim.count("imports") == 1);
    CHECK(world.holds(kept.address(), kLentBytes, 2));
  }
  CHECK(world.sim.count("imports") == 0);
  CHECK(lender.end() == 0);
}

TEST_CASE("a range that leaves the allocation is refused with both sizes, and nothing stays open") {
  DeviceWorld world;
  const Lender lender;
  const auto refused = [&](std::uint64_t offset, std::uint64_t size_bytes, const char* why) {
    const auto memory = DeviceMemory::open(world.context(), part_of(lender.first, offset, size_bytes));
    CAPTURE(why);
    CHECK(memory.status().code() == Code::kInvalidValue);
    CHECK_MESSAGE(contains(memory.status().message(), why), memory.status().message());
    CHECK(world.sim.count("imports") == 0);
  };
  refused(0, 0, "0 bytes");
  refused(0, kLentBytes + 1, "the allocation has 1048576 bytes, of which 1048576 follow the address");
  refused(1000, kLentBytes - 999, "of which 1047576 follow");
  refused(kLentBytes + 1, 1, "of which 0 follow");
  refused(~std::uint64_t{0}, 1, "of which 0 follow");
  refused(~std::uint64_t{0} - 99, 200, "of which 0 follow");
  refused(100, ~std::uint64_t{0} - 50, "of which 1048476 follow");
}

TEST_CASE("memory of another device than the context's is refused") {
  DeviceWorld world;
  const Lender lender;
  const auto memory = DeviceMemory::open(world.context(1), lender.first);
  CHECK(memory.status().code() == Code::kInvalidValue);
  CHECK(contains(memory.status().message(), "lies on device 0"));
  CHECK(world.sim.count("imports") == 0);
}

TEST_CASE("devices that do not reach each other, and a device that is not visible, are told apart from a dead owner") {
  const Lender lender;
  {
    DeviceWorld world("peers=0");
    CHECK(DeviceMemory::open(world.context(1), lender.first).status().code() == Code::kUnsupported);
  }
  DeviceWorld world("visible=1");
  const auto unseen = DeviceMemory::open(world.context(), lender.first);
  CHECK(unseen.status().code() == Code::kIo);
  CHECK(contains(unseen.status().message(), "does not see its GPU"));
}

TEST_CASE(
    "this process's own handle is refused, whether or not it says whose it is, and 64 other bytes are no handle") {
  DeviceWorld world;
  const auto owned = DeviceMemory::allocate(world.context(), kLentBytes);
  REQUIRE(owned.is_ok());
  const auto range = owned.value().share();
  REQUIRE(range.is_ok());
  for (const IpcRange& own : {range.value(), by_unknown(range.value())}) {
    const auto refused = DeviceMemory::open(world.context(), own);
    CHECK(refused.status().code() == Code::kUnsupported);
    CHECK(contains(refused.status().message(), "by its address"));
  }
  IpcRange nonsense;
  nonsense.size_bytes = 1;
  const auto refused = DeviceMemory::open(world.context(), nonsense);
  CHECK(refused.status().code() == Code::kInvalidValue);
  CHECK(contains(refused.status().message(), "no handle"));
}

TEST_CASE("memory whose owner has ended cannot be opened, and one that is open says so before it is used") {
  DeviceWorld world;
  Lender lender;
  const auto known = DeviceMemory::open(world.context(), lender.first);
  const auto unknown = DeviceMemory::open(world.context(), by_unknown(lender.second));
  REQUIRE(known.is_ok());
  REQUIRE(unknown.is_ok());
  CHECK(known.value().check().is_ok());
  const int owner = lender.pid();
  (void)lender.end(SIGKILL);
  const kvtier::Status ended = known.value().check();
  CHECK(ended.code() == Code::kIo);
  CHECK(contains(ended.message(), "process " + std::to_string(owner)));
  CHECK(contains(ended.message(), "has ended"));
  // The driver does not say it of an owner that was not named.
  CHECK(unknown.value().check().is_ok());
  const auto again = DeviceMemory::open(world.context(), lender.first);
  CHECK(again.status().code() == Code::kIo);
  CHECK(contains(again.status().message(), "has ended"));
}

TEST_CASE("an owner that ended or freed its memory before it was opened is an error, also where it is not named") {
  DeviceWorld world;
  {
    Lender freed;
    REQUIRE(DeviceMemory::open(world.context(), freed.first).is_ok());
    // Nobody has it open now, so that freeing it is right.
    CHECK_FALSE(freed.order(kFree));
    const auto memory = DeviceMemory::open(world.context(), freed.first);
    CHECK(memory.status().code() == Code::kIo);
    CHECK(contains(memory.status().message(), "ended or freed it"));
    CHECK(freed.end() == 0);
  }
  Lender ended;
  CHECK(ended.end() == 0);
  for (const IpcRange& range : {ended.first, by_unknown(ended.first)}) {
    const auto memory = DeviceMemory::open(world.context(), range);
    CHECK(memory.status().code() == Code::kIo);
    CHECK(contains(memory.status().message(), "has ended"));
  }
}

TEST_CASE("work on memory whose owner has ended fails with the device, and giving the memory back does not hang") {
  DeviceWorld world;
  world.may_leak = true;
  Lender lender;
  const auto memory = DeviceMemory::open(world.context(), by_unknown(lender.first));
  REQUIRE(memory.is_ok());
  (void)lender.end(SIGKILL);
  const auto current = CurrentContext::enter(*world.context());
  REQUIRE(current.is_ok());
  kvtier::cuda::Stream stream = nullptr;
  REQUIRE(world.cuda.stream_create_with_priority(&stream, kvtier::cuda::kStreamNonBlocking, 0) == Error::kSuccess);
  (void)world.cuda.memset_d8_async(memory.value().address(), 1, 100, stream);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kIllegalAddress);
  CHECK(memory.value().check().code() == Code::kDeviceLost);
  // The simulator says so when the work is queued, and when it runs.
  CHECK(world.sim.violations() > 0);
  world.sim.clear_violations();
}

TEST_CASE("every call of an opening that fails is a status, and nothing stays open") {
  DeviceWorld world;
  const Lender lender;
  (void)world.context();
  const auto open = [&] { return DeviceMemory::open(world.context(), lender.first).is_ok(); };
  CHECK(world.fail_each({"cuIpcOpenMemHandle", "cuPointerGetAttribute"}, open) == 6);
  // Of entering the context: to open, and to ask.
  for (const std::uint64_t nth : {1U, 2U}) {
    world.sim.fail_call("cuCtxGetCurrent", nth, static_cast<int>(Error::kUnknown), 1);
    CHECK(DeviceMemory::open(world.context(), lender.first).status().code() == Code::kIo);
    CHECK(world.sim.count("imports") == 0);
  }
  CHECK(open());
}

TEST_CASE("a mapping that the driver does not give back is forgotten all the same") {
  DeviceWorld world;
  world.may_leak = true;
  const Lender lender;
  world.sim.fail_call("cuIpcCloseMemHandle", 1, static_cast<int>(Error::kUnknown), 1);
  REQUIRE(DeviceMemory::open(world.context(), lender.first).is_ok());
  const auto again = DeviceMemory::open(world.context(), lender.first);
  REQUIRE(again.is_ok());
  CHECK(world.holds(again.value().address(), kLentBytes, 1));
}

TEST_CASE("threads that open and give back ranges of one allocation never meet one that is closed") {
  DeviceWorld world;
  const Lender lender;
  const auto context = world.context();
  constexpr int kThreads = 4;
  constexpr int kRounds = 50;
  std::vector<int> opened(kThreads, 0);
  {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int round = 0; round < kRounds; ++round) {
          const auto memory = DeviceMemory::open(context, part_of(lender.first, 1000, 1000));
          unsigned char byte = 0;
          const bool reads = memory.is_ok() && memory.value().check().is_ok() &&
                             world.sim.read(memory.value().address(), &byte, 1) == 1 && byte == 1;
          opened[static_cast<std::size_t>(thread)] += reads ? 1 : 0;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(opened == std::vector<int>(kThreads, kRounds));
  CHECK(world.sim.count("imports") == 0);
}
#endif
