// A simulated machine, a client of the engine with host, device and disk tiers, and an engine of the tests' own that
// computes in a stream. One thread.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "native/transfer/fakes.h"
#include "storage/device/device_storage.h"
#include "support/sim-cuda/sim_library.h"
#include "transfer/device/fence.h"
#include "transfer/device/ready_events.h"

namespace kvtier {

using sim::SimDriver;

// A fresh simulated machine; at its end nothing may be left on it, and no violation.
class Machine {
 public:
  explicit Machine(const std::string& settings = "lateness_us=0") : sim(SimDriver::get()) {
    sim.reset(settings.c_str());
    const CudaDriver& driver = CudaDriver::get(sim.library.path());
    REQUIRE_MESSAGE(driver.is_ready(), driver.reason());
    REQUIRE(sim.cuda.init(0) == cuda::Error::kSuccess);
    for (int ordinal = 0; ordinal < 2; ++ordinal) {
      auto context = CudaContext::retain(driver, ordinal);
      REQUIRE(context.is_ok());
      contexts.push_back(std::move(context).value());
    }
    REQUIRE(contexts[0]->make_current().is_ok());
  }
  ~Machine() {
    for (const char* what : {"allocations", "streams", "events", "registrations", "modules"}) {
      if (may_leak) break;
      CAPTURE(what);
      CHECK(sim.count(what) <= most_left);
    }
    contexts.clear();
    if (may_leak) sim.clear_violations();
    CHECK_MESSAGE(sim.violations() == 0, sim.violation_text());
    sim.reset(nullptr);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const SimDriver& sim;
  std::vector<std::shared_ptr<const CudaContext>> contexts;
  std::uint64_t most_left = 0;  // of each kind: a call that gives one back may have failed
  bool may_leak = false;        // the device was lost
};

struct DeviceRigOptions {
  GroupShape shape = {.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 60};
  LayoutKind kind = LayoutKind::kLayersKvInner;
  std::uint32_t slots = 24;
  bool pinned = true;
  bool both_devices = false;  // a part on each
};

struct DeviceRig {
  explicit DeviceRig(Machine& machine, const DeviceRigOptions& options = {}) : machine(machine), options(options) {
    auto opened = EngineClient::open({.threads = 4}, reports);
    REQUIRE(opened.is_ok());
    client = std::move(opened).value();
    host = adopt(open_host());
    std::vector<std::shared_ptr<const CudaContext>> contexts{machine.contexts[0]};
    if (options.both_devices) contexts.push_back(machine.contexts[1]);
    auto allocated = DeviceStorage::allocate(contexts, options.kind, options.shape, options.slots);
    REQUIRE_MESSAGE(allocated.is_ok(), allocated.status().message());
    device = adopt(std::move(allocated).value());
    disk = adopt(std::make_unique<FakeDisk>(options.shape, options.slots, control));
  }

  std::unique_ptr<Storage> open_host() {
    if (!options.pinned) return make_memory(LayoutKind::kContiguous, options.shape, options.slots);
    auto storage =
        MemoryStorage::allocate_pinned(LayoutKind::kContiguous, options.shape, options.slots, machine.contexts[0]);
    REQUIRE_MESSAGE(storage.is_ok(), storage.status().message());
    REQUIRE(storage.value()->pinned()->wait().is_ok());
    return std::move(storage).value();
  }

  std::shared_ptr<SharedStorage> adopt(std::unique_ptr<Storage> storage) {
    auto shared = client->adopt(std::move(storage));
    REQUIRE_MESSAGE(shared.is_ok(), shared.status().message());
    return std::move(shared).value();
  }

  // Blocks `first`, `first + 1`, ... with hashes of their number; slots of the same numbers on source and disk, and
  // on the target backwards, so that they are not the same.
  TransferRequest request(TransferPath path, const std::shared_ptr<SharedStorage>& source,
                          const std::shared_ptr<SharedStorage>& target, std::uint32_t first, std::uint32_t count) {
    TransferRequest request;
    request.ticket = ++ticket;
    request.path = path;
    request.source = source;
    request.target = target;
    request.onboard = target == device;
    for (std::uint32_t i = first; i < first + count; ++i) {
      request.moves.push_back({slot_in(source, i), kNoSlot, slot_in(target, i)});
      request.hashes.push_back(hash_of(i));
      if (path == TransferPath::kMemoryToSlab) request.records.push_back({.hash = hash_of(i)});
    }
    return request;
  }
  std::uint32_t slot_in(const std::shared_ptr<SharedStorage>& storage, std::uint32_t block) const {
    return storage == device ? options.slots - 1 - block : block;
  }

  std::uint32_t start(TransferRequest&& request) {
    const std::uint32_t started = request.ticket;
    const Status status = client->submit(std::move(request));
    REQUIRE_MESSAGE(status.is_ok(), status.message());
    return started;
  }
  Reports::Entry run(TransferRequest&& request) { return reports.settled(start(std::move(request))); }
  void arrive(TransferRequest&& request) {
    const Reports::Entry entry = run(std::move(request));
    CHECK(entry.code == Code::kOk);
    for (const Outcome outcome : entry.outcomes) {
      CHECK_MESSAGE(outcome == make_outcome(Code::kOk, Stage::kTarget), entry.message);
    }
  }

  void fill(const std::shared_ptr<SharedStorage>& storage, std::uint32_t first, std::uint32_t count) {
    arrive(request(TransferPath::kFillPattern, storage, storage, first, count));
  }
  // How many of the slots hold their own pattern.
  std::uint32_t right(const std::shared_ptr<SharedStorage>& storage, std::uint32_t first, std::uint32_t count) {
    const Reports::Entry entry = run(request(TransferPath::kCheckPattern, storage, storage, first, count));
    std::uint32_t good = 0;
    for (const Outcome outcome : entry.outcomes) {
      CHECK_MESSAGE((code_of(outcome) == Code::kOk || code_of(outcome) == Code::kChecksum), entry.message);
      good += code_of(outcome) == Code::kOk ? 1U : 0U;
    }
    return good;
  }
  TransferRequest offload(std::uint32_t first, std::uint32_t count) {
    return request(TransferPath::kMemoryToMemoryChecked, device, host, first, count);
  }
  TransferRequest onboard(std::uint32_t first, std::uint32_t count) {
    return request(TransferPath::kMemoryToMemory, host, device, first, count);
  }
  TransferRequest store(std::uint32_t first, std::uint32_t count) {
    return request(TransferPath::kMemoryToSlab, host, disk, first, count);
  }
  // With a via slot for every second block.
  TransferRequest load(std::uint32_t first, std::uint32_t count) {
    TransferRequest load = request(TransferPath::kSlabToMemoryVia, disk, device, first, count);
    load.via = host;
    for (std::size_t i = 0; i < load.moves.size(); i += 2) load.moves[i].via = load.moves[i].source;
    return load;
  }
  // Overwrites all device memory.
  void wipe_device() {
    const std::vector<unsigned char> junk(4096, 0xee);
    for (const DevicePart& part : device->storage().device_parts()) {
      for (std::size_t i = 0; i < part.regions.size(); ++i) {
        const std::uint64_t bytes = part.layout->region_bytes()[i];
        for (std::uint64_t at = 0; at < bytes; at += junk.size()) {
          REQUIRE(machine.sim.write(part.regions[i] + at, junk.data(),
                                    std::min<std::uint64_t>(junk.size(), bytes - at)) != 0);
        }
      }
    }
  }

  Machine& machine;
  const DeviceRigOptions options;
  Reports reports;
  DiskControl control;
  std::unique_ptr<EngineClient> client;
  std::shared_ptr<SharedStorage> host;
  std::shared_ptr<SharedStorage> device;
  std::shared_ptr<SharedStorage> disk;
  std::uint32_t ticket = 0;
};

// A stream of the engine, in which its work on one block's slot is a fill of the whole region with one value.
class ProducerStream {
 public:
  explicit ProducerStream(DeviceRig& rig) : rig_(rig), cuda_(rig.machine.sim.cuda) {
    REQUIRE(cuda_.stream_create_with_priority(&stream_, cuda::kStreamNonBlocking, 0) == cuda::Error::kSuccess);
  }
  ~ProducerStream() { CHECK(cuda_.stream_destroy(stream_) == cuda::Error::kSuccess); }
  ProducerStream(const ProducerStream&) = delete;
  ProducerStream& operator=(const ProducerStream&) = delete;

  // Computes: every byte of the device becomes `value`, when the stream comes to it.
  void compute(unsigned char value) {
    for (const DevicePart& part : rig_.device->storage().device_parts()) {
      for (std::size_t i = 0; i < part.regions.size(); ++i) {
        REQUIRE(cuda_.memset_d8_async(part.regions[i], value, part.layout->region_bytes()[i], stream_) ==
                cuda::Error::kSuccess);
      }
    }
  }
  std::shared_ptr<const Fence> fence() {
    auto fence = Fence::after_stream(*rig_.device->links()[0], stream_);
    REQUIRE_MESSAGE(fence.is_ok(), fence.status().message());
    return std::move(fence).value();
  }
  void hold() { rig_.machine.sim.hold_stream(stream_); }
  void release() { rig_.machine.sim.release_stream(stream_); }
  [[nodiscard]] cuda::Stream handle() const { return stream_; }

 private:
  DeviceRig& rig_;
  const cuda::Functions& cuda_;
  cuda::Stream stream_ = nullptr;
};

}  // namespace kvtier
