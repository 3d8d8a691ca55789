// Device memory and events that two processes share. The second process is this program again, told by its environment
// to play a part instead of running tests.
#include <cstdlib>
#include <cstring>

#include "native/support/sim-cuda/peer.h"
#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Event;
using kvtier::cuda::IpcEventHandle;
using kvtier::cuda::IpcMemHandle;
using kvtier::cuda::kIpcLazyEnablePeerAccess;
using kvtier::cuda::Stream;

constexpr std::size_t kBytes = 10000;
constexpr std::size_t kOffset = 1000;
constexpr unsigned kShared = kvtier::cuda::kEventInterprocess | kvtier::cuda::kEventDisableTiming;

struct Offer {
  IpcMemHandle memory;
  IpcEventHandle event;
};

// The second process's half: it offers memory and an event, or takes those that it is offered. Each step that it does
// is answered by a byte, 1 for well.
class Part {
 public:
  Part() : cuda_(SimDriver::get().cuda) {
    kvtier::cuda::Context context = nullptr;
    ok_ = cuda_.init(0) == Error::kSuccess && cuda_.device_primary_ctx_retain(&context, 0) == Error::kSuccess &&
          cuda_.ctx_set_current(context) == Error::kSuccess &&
          cuda_.stream_create_with_priority(&stream_, kvtier::cuda::kStreamNonBlocking, 0) == Error::kSuccess;
  }

  // Memory that holds 1, an event that is recorded when a 2 comes and frees the memory when a 3 comes.
  void offer() {
    Offer offer{};
    DevicePtr memory = 0;
    Event event = nullptr;
    ok_ = ok_ && cuda_.mem_alloc(&memory, kBytes) == Error::kSuccess &&
          cuda_.event_create(&event, kShared) == Error::kSuccess &&
          cuda_.memset_d8_async(memory, 1, kBytes, stream_) == Error::kSuccess &&
          cuda_.stream_synchronize(stream_) == Error::kSuccess &&
          cuda_.ipc_get_mem_handle(&offer.memory, memory + kOffset) == Error::kSuccess &&
          cuda_.ipc_get_event_handle(&offer.event, event) == Error::kSuccess && send(STDOUT_FILENO, offer);
    unsigned char order = 0;
    while (ok_ && receive(STDIN_FILENO, order)) {
      if (order == 2) {
        ok_ = cuda_.memset_d8_async(memory, 2, kBytes, stream_) == Error::kSuccess &&
              cuda_.event_record(event, stream_) == Error::kSuccess;
      } else {
        // The importer still has it, which this process has to hear of.
        ok_ = cuda_.mem_free(memory) == Error::kSuccess && SimDriver::get().violations() == 1;
      }
      ok_ = send(STDOUT_FILENO, static_cast<unsigned char>(ok_ ? 1 : 0)) && ok_;
    }
  }

  // Waits for the event that it is offered, reads the memory, and writes 5 into it.
  void take() {
    Offer offer{};
    DevicePtr memory = 0;
    Event event = nullptr;
    std::vector<unsigned char> bytes(kBytes);
    ok_ = ok_ && receive(STDIN_FILENO, offer) &&
          cuda_.ipc_open_mem_handle(&memory, offer.memory, kIpcLazyEnablePeerAccess) == Error::kSuccess &&
          cuda_.ipc_open_event_handle(&event, offer.event) == Error::kSuccess &&
          cuda_.event_query(event) == Error::kNotReady && send(STDOUT_FILENO, static_cast<unsigned char>(1)) &&
          cuda_.stream_wait_event(stream_, event, 0) == Error::kSuccess &&
          cuda_.memcpy_dtoh_async(bytes.data(), memory, kBytes, stream_) == Error::kSuccess &&
          bytes == bytes_of(kBytes, 2) && cuda_.memset_d8_async(memory, 5, kBytes, stream_) == Error::kSuccess &&
          cuda_.stream_synchronize(stream_) == Error::kSuccess && cuda_.event_destroy(event) == Error::kSuccess &&
          cuda_.ipc_close_mem_handle(memory) == Error::kSuccess;
  }

  [[noreturn]] void end() const { ::_exit(ok_ && SimDriver::get().violations() <= 1 ? 0 : 1); }

 private:
  const kvtier::cuda::Functions& cuda_;
  Stream stream_ = nullptr;
  bool ok_ = false;
};

[[maybe_unused]] const bool played = [] {
  const char* part = std::getenv("KVTIER_SIM_PART");
  if (part == nullptr) return false;
  Part playing;
  if (std::strcmp(part, "offer") == 0) {
    playing.offer();
  } else {
    playing.take();
  }
  playing.end();
}();

struct IpcPeer : Peer {
  explicit IpcPeer(const char* part) : Peer("KVTIER_SIM_PART", part) {}
};

// Opens the memory that the peer offers.
DevicePtr open_offered(const World& world, const IpcPeer& peer, Offer& offer) {
  REQUIRE(receive(peer.out(), offer));
  DevicePtr memory = 0;
  REQUIRE(world.cuda.ipc_open_mem_handle(&memory, offer.memory, kIpcLazyEnablePeerAccess) == Error::kSuccess);
  return memory;
}

}  // namespace

TEST_CASE("sim-cuda: another process reads and writes exported memory after waiting for an exported event") {
  const World world;
  const DevicePtr memory = world.allocate(kBytes, 1);
  const Event event = world.event(kShared);
  const Stream stream = world.stream();
  Offer offer{};
  REQUIRE(world.cuda.ipc_get_mem_handle(&offer.memory, memory) == Error::kSuccess);
  REQUIRE(world.cuda.ipc_get_event_handle(&offer.event, event) == Error::kSuccess);
  world.sim.hold();
  REQUIRE(world.cuda.memset_d8_async(memory, 2, kBytes, stream) == Error::kSuccess);
  REQUIRE(world.cuda.event_record(event, stream) == Error::kSuccess);
  IpcPeer peer("take");
  REQUIRE(send(peer.in(), offer));
  unsigned char waiting = 0;
  REQUIRE(receive(peer.out(), waiting));
  CHECK(world.read(memory, kBytes) == bytes_of(kBytes, 1));
  world.sim.release();
  CHECK(peer.end() == 0);
  CHECK(world.read(memory, kBytes) == bytes_of(kBytes, 5));
  CHECK(world.cuda.mem_free(memory) == Error::kSuccess);
}

TEST_CASE("sim-cuda: a handle stands for the whole allocation and is opened once a context") {
  const World world;
  IpcPeer peer("offer");
  Offer offer{};
  REQUIRE(receive(peer.out(), offer));
  DevicePtr memory = 0;
  DevicePtr again = 0;
  CHECK(world.cuda.ipc_open_mem_handle(&memory, offer.memory, 0) == Error::kInvalidValue);
  REQUIRE(world.cuda.ipc_open_mem_handle(&memory, offer.memory, kIpcLazyEnablePeerAccess) == Error::kSuccess);
  REQUIRE(world.cuda.ipc_open_mem_handle(&again, offer.memory, kIpcLazyEnablePeerAccess) == Error::kSuccess);
  CHECK(again == memory);
  CHECK(world.sim.count("imports") == 1);
  // The exporter's pointer was kOffset into the allocation.
  DevicePtr base = 0;
  std::size_t bytes = 0;
  CHECK(world.cuda.mem_get_address_range(&base, &bytes, memory + 1) == Error::kSuccess);
  CHECK(base == memory);
  CHECK(bytes == kBytes);
  CHECK(world.read(memory, kBytes) == bytes_of(kBytes, 1));
  Event event = nullptr;
  REQUIRE(world.cuda.ipc_open_event_handle(&event, offer.event) == Error::kSuccess);
  CHECK(world.cuda.event_query(event) == Error::kSuccess);
  REQUIRE(peer.order(2));
  CHECK(world.cuda.event_synchronize(event) == Error::kSuccess);
  CHECK(world.read(memory, kBytes) == bytes_of(kBytes, 2));
  CHECK(world.cuda.mem_free(memory) == Error::kInvalidValue);
  CHECK(world.cuda.ipc_close_mem_handle(memory) == Error::kSuccess);
  CHECK(world.sim.count("imports") == 1);
  CHECK(world.cuda.ipc_close_mem_handle(memory) == Error::kSuccess);
  CHECK(world.sim.count("imports") == 0);
  CHECK(world.cuda.ipc_close_mem_handle(memory) == Error::kInvalidValue);
  CHECK(peer.end() == 0);
}

TEST_CASE("sim-cuda: a handle cannot be opened in its own process") {
  const World world;
  const DevicePtr memory = world.allocate(kBytes);
  const Event event = world.event(kShared);
  Offer offer{};
  REQUIRE(world.cuda.ipc_get_mem_handle(&offer.memory, memory) == Error::kSuccess);
  REQUIRE(world.cuda.ipc_get_event_handle(&offer.event, event) == Error::kSuccess);
  DevicePtr opened = 0;
  Event opened_event = nullptr;
  CHECK(world.cuda.ipc_open_mem_handle(&opened, offer.memory, kIpcLazyEnablePeerAccess) == Error::kInvalidContext);
  CHECK(world.cuda.ipc_open_event_handle(&opened_event, offer.event) == Error::kInvalidContext);
}

TEST_CASE("sim-cuda: memory that is not for legacy IPC and events that are not interprocess have no handle") {
  const World world;
  const DevicePtr memory = world.allocate(kBytes);
  world.sim.set_ipc_capable(memory, 0);
  Offer offer{};
  CHECK(world.cuda.ipc_get_mem_handle(&offer.memory, memory) == Error::kInvalidValue);
  bool capable = true;
  CHECK(world.cuda.pointer_get_attribute(&capable, kvtier::cuda::PointerAttribute::kIsLegacyIpcCapable, memory) ==
        Error::kSuccess);
  CHECK_FALSE(capable);
  CHECK(world.cuda.ipc_get_event_handle(&offer.event, world.event()) == Error::kInvalidHandle);
  Event event = nullptr;
  CHECK(world.cuda.event_create(&event, kvtier::cuda::kEventInterprocess) == Error::kInvalidValue);
  DevicePtr opened = 0;
  CHECK(world.cuda.ipc_open_mem_handle(&opened, IpcMemHandle{}, kIpcLazyEnablePeerAccess) == Error::kInvalidHandle);
}

TEST_CASE("sim-cuda: an owner that is dead cannot be opened, and work on its memory fails") {
  const World world;
  const Stream stream = world.stream();
  Pinned host(kBytes);
  IpcPeer peer("offer");
  Offer offer{};
  const DevicePtr memory = open_offered(world, peer, offer);
  world.sim.hold();
  REQUIRE(world.cuda.memcpy_dtoh_async(host.data(), memory, kBytes, stream) == Error::kSuccess);
  (void)peer.end(SIGKILL);
  world.sim.release();
  CHECK(world.cuda.stream_synchronize(stream) == Error::kIllegalAddress);
  CHECK(has(world.violation(), "gone"));
  const auto second = world.retain(1);
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  DevicePtr opened = 0;
  Event event = nullptr;
  CHECK(world.cuda.ipc_open_mem_handle(&opened, offer.memory, kIpcLazyEnablePeerAccess) == Error::kMapFailed);
  CHECK(world.cuda.ipc_open_event_handle(&event, offer.event) == Error::kMapFailed);
}

TEST_CASE("sim-cuda: memory that its owner freed before the importer closed it is a violation on both sides") {
  const World world;
  const Stream stream = world.stream();
  Pinned host(kBytes);
  IpcPeer peer("offer");
  Offer offer{};
  const DevicePtr memory = open_offered(world, peer, offer);
  CHECK(peer.order(3));
  CHECK(world.cuda.memcpy_dtoh_async(host.data(), memory, kBytes, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kIllegalAddress);
  CHECK(world.sim.violations() == 2);
  CHECK(has(world.sim.violation_text(), "freed, or its owner is dead"));
  world.sim.clear_violations();
  CHECK(peer.end() == 0);
}

TEST_CASE("sim-cuda: memory of a device that this process does not see cannot be opened") {
  IpcPeer peer("offer");
  Offer offer{};
  REQUIRE(receive(peer.out(), offer));
  const World world("visible=1");
  DevicePtr memory = 0;
  CHECK(world.cuda.ipc_open_mem_handle(&memory, offer.memory, kIpcLazyEnablePeerAccess) == Error::kMapFailed);
  CHECK(peer.end() == 0);
}
