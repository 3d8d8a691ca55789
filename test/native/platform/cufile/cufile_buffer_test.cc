#if defined(__linux__)
#include "platform/cufile/cufile_buffer.h"

#include <array>
#include <atomic>
#include <thread>

#include "native/platform/cufile/cufile_world.h"

using kvtier::Code;
using kvtier::CufileBuffer;
using kvtier::Result;
using kvtier::Status;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Error;
using namespace kvtier::cufile_world;
using kvtier::sim::has;

namespace {

constexpr std::size_t kBytes = 1 << 20;

}  // namespace

TEST_CASE("an allocation is registered once for all who use memory of it, and until the last lets go") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  auto first = world.buffer_of(memory + 4096, 8192);
  CHECK(first.base() == memory);
  CHECK(first.size_bytes() == kBytes);
  CHECK(&first.context() == world.primary.get());
  CHECK(&first.driver() == &world.driver);
  CHECK(world.file.count("buffers") == 1);
  {
    const CufileBuffer second = world.buffer_of(memory, kBytes);
    CHECK(second.base() == memory);
    CHECK(world.file.calls("cuFileBufRegister") == 1);
  }
  CHECK(world.file.count("buffers") == 1);
  CHECK(CufileBuffer::registered_count() == 1);
  CHECK(first.check().is_ok());
  CHECK(first.release().is_ok());
  CHECK(world.file.count("buffers") == 0);
  // A second release has nothing to do.
  CHECK(first.release().is_ok());
  CHECK(world.file.calls("cuFileBufDeregister") == 1);
  CHECK(world.cuda.mem_free(memory) == Error::kSuccess);
}

TEST_CASE("other allocations are registered on their own, and a moved share is let go once") {
  const CufileWorld world;
  const DevicePtr one = world.allocate(kBytes);
  const DevicePtr two = world.allocate(kBytes);
  {
    CufileBuffer first = world.buffer_of(one, 4096);
    CufileBuffer second = world.buffer_of(two, 4096);
    CHECK(world.file.count("buffers") == 2);
    CufileBuffer moved = std::move(first);
    CHECK(moved.base() == one);
    moved = std::move(second);
    CHECK(moved.base() == two);
  }
  CHECK(world.file.count("buffers") == 0);
  CHECK(world.file.calls("cuFileBufDeregister") == 2);
}

TEST_CASE("memory that is not the device's, not whole, or another device's is refused, with what was asked") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  const auto refused = [&](DevicePtr address, std::uint64_t size_bytes) {
    const auto made = CufileBuffer::register_range(world.driver, world.primary, address, size_bytes);
    CHECK(made.status().code() == Code::kInvalidValue);
    return made.status().message();
  };
  alignas(4096) static std::array<unsigned char, 4096> host{};
  CHECK(has(refused(reinterpret_cast<DevicePtr>(host.data()), host.size()), "not device memory"));
  CHECK(has(refused(memory, kBytes + 1), "1048577 bytes"));
  CHECK(has(refused(memory + 4096, kBytes), "of which 4096 lie before"));
  CHECK(has(refused(memory + 4096, ~std::uint64_t{0}), "1048576 bytes"));
  CHECK(has(refused(memory, 0), "0 bytes"));
  const auto other = world.context_of(1);
  const auto made = CufileBuffer::register_range(world.driver, other, memory, kBytes);
  CHECK(made.status().code() == Code::kInvalidValue);
  CHECK(has(made.status().message(), "lie on device 0; device 1 was named"));
  CHECK(world.file.calls("cuFileBufRegister") == 0);
}

TEST_CASE("a device that other devices cannot reach is refused, and so is a cuFile that is not ready") {
  const CufileWorld world("rdma=0");
  const DevicePtr memory = world.allocate(kBytes);
  CHECK(CufileBuffer::register_range(world.driver, world.primary, memory, kBytes).status().code() ==
        Code::kUnsupported);
  const auto& absent = absent_cufile();
  const Status status = CufileBuffer::register_range(absent, world.primary, memory, kBytes).status();
  CHECK(status.code() == Code::kUnsupported);
  CHECK(status.message() == absent.reason());
}

TEST_CASE("a thread that has no context registers and lets go all the same, and has none afterwards") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  REQUIRE(world.cuda.ctx_set_current(nullptr) == Error::kSuccess);
  {
    const CufileBuffer buffer = world.buffer_of(memory, kBytes);
    CHECK(buffer.check().is_ok());
  }
  kvtier::cuda::Context current = world.context;
  CHECK(world.cuda.ctx_get_current(&current) == Error::kSuccess);
  CHECK((current == nullptr));
}

TEST_CASE("whichever call of a registration fails, it says so and leaves nothing registered") {
  const int kOutOfMemory = static_cast<int>(Error::kOutOfMemory);
  for (std::uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 100);
    const CufileWorld world;
    const DevicePtr memory = world.allocate(kBytes);
    REQUIRE(world.cuda.ctx_set_current(nullptr) == Error::kSuccess);
    const std::uint64_t before = world.sim.calls(nullptr);
    world.sim.fail_call(nullptr, nth, kOutOfMemory, 1);
    const auto made = CufileBuffer::register_range(world.driver, world.primary, memory, kBytes);
    const bool reached = world.sim.calls(nullptr) - before >= nth;
    if (!reached) {
      CHECK(made.is_ok());
      CHECK(nth > 5);
      break;
    }
    // The last call puts the thread's former context back: what is done by then is done.
    if (!made.is_ok()) CHECK(world.file.count("buffers") == 0);
    if (!made.is_ok()) CHECK_FALSE(made.status().message().empty());
  }
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  for (const auto& [code, meaning] :
       {std::pair{5036, Code::kOutOfMemory}, std::pair{5011, Code::kIo}, std::pair{5013, Code::kUnsupported}}) {
    world.file.fail_call("cuFileBufRegister", 1, code, 1);
    const auto made = CufileBuffer::register_range(world.driver, world.primary, memory, kBytes);
    CHECK(made.status().code() == meaning);
    CHECK(has(made.status().message(), "cuFileBufRegister of 1048576 bytes of device memory at 0x"));
    CHECK(CufileBuffer::registered_count() == 0);
  }
}

TEST_CASE("an allocation that could not be let go is known as registered, and the next share takes it over") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  CufileBuffer buffer = world.buffer_of(memory, kBytes);
  world.file.fail_call("cuFileBufDeregister", 1, 5030, 1);
  const Status status = buffer.release();
  CHECK(status.code() == Code::kIo);
  CHECK(has(status.message(), "cuFileBufDeregister"));
  CHECK(CufileBuffer::registered_count() == 1);
  CufileBuffer again = world.buffer_of(memory, kBytes);
  CHECK(world.file.calls("cuFileBufRegister") == 1);
  CHECK(again.release().is_ok());
  CHECK(world.file.count("buffers") == 0);
}

TEST_CASE("an allocation that was freed while it was registered is noticed") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  const CufileBuffer buffer = world.buffer_of(memory, kBytes);
  CHECK(world.cuda.mem_free(memory) == Error::kSuccess);
  CHECK(has(world.violation(), "held by cuFile"));
  const Status status = buffer.check();
  CHECK(status.code() == Code::kInvalidValue);
  CHECK(has(status.message(), "were freed while they were registered"));
}

TEST_CASE("memory that got the address of freed memory is not taken for what was registered there") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  CufileBuffer stale = world.buffer_of(memory, kBytes);
  CHECK(world.cuda.mem_free(memory) == Error::kSuccess);
  CHECK(has(world.violation(), "held by cuFile"));
  // The simulator keeps addresses from use for a while.
  DevicePtr again = 0;
  for (int round = 0; round < 5000 && again != memory; ++round) {
    if (again != 0) REQUIRE(world.cuda.mem_free(again) == Error::kSuccess);
    again = world.allocate(kBytes);
  }
  if (again != memory) {
    MESSAGE("skipped: the address did not come back");
    return;
  }
  CHECK(stale.check().code() == Code::kInvalidValue);
  const auto refused = CufileBuffer::register_range(world.driver, world.primary, memory, kBytes);
  CHECK(refused.status().code() == Code::kInvalidValue);
  CHECK(has(refused.status().message(), "were freed while they were registered"));
  // What could not be let go is let go before the new allocation is registered.
  world.file.fail_call("cuFileBufDeregister", 1, 5030, 2);
  CHECK_FALSE(stale.release().is_ok());
  CHECK_FALSE(CufileBuffer::register_range(world.driver, world.primary, memory, kBytes).is_ok());
  CHECK(world.buffer_of(memory, kBytes).check().is_ok());
  CHECK(world.file.calls("cuFileBufRegister") == 2);
  CHECK(has(world.violation(), "gives back device memory that it does not hold"));  // that of the freed allocation
}

TEST_CASE("there may be no more registrations than the bound, and room again when one goes") {
  const CufileWorld world;
  std::vector<CufileBuffer> buffers;
  for (std::size_t i = 0; i < CufileBuffer::kMostRegistrations; ++i) {
    buffers.push_back(world.buffer_of(world.allocate(4096), 4096));
  }
  const DevicePtr memory = world.allocate(4096);
  const auto refused = CufileBuffer::register_range(world.driver, world.primary, memory, 4096);
  CHECK(refused.status().code() == Code::kOutOfMemory);
  CHECK(has(refused.status().message(), "512 other allocations"));
  // A share of one that is registered is no more.
  CHECK(CufileBuffer::register_range(world.driver, world.primary, buffers[7].base(), 4096).is_ok());
  buffers.pop_back();
  CHECK(CufileBuffer::register_range(world.driver, world.primary, memory, 4096).is_ok());
}

TEST_CASE("threads that come and go share the registration of an allocation") {
  const CufileWorld world;
  const DevicePtr memory = world.allocate(kBytes);
  std::atomic<int> failures = 0;
  const auto come_and_go = [&] {
    for (int round = 0; round < 50; ++round) {
      auto made = CufileBuffer::register_range(world.driver, world.primary, memory, kBytes);
      if (!made.is_ok() || made.value().base() != memory || !made.value().release().is_ok()) ++failures;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(come_and_go);
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(CufileBuffer::registered_count() == 0);
}
#endif
