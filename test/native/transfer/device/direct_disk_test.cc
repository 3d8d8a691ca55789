// Blocks that go directly between a slab and a GPU's memory. Must hold: right bytes or a miss, whatever cuFile does.
#include <atomic>
#include <filesystem>
#include <thread>

#include "kernels/pattern.h"
#include "native/platform/cufile/cufile_world.h"
#include "native/storage/slab/slab_rig.h"
#include "native/transfer/device/device_rig.h"

namespace kvtier {
namespace {

using cufile_world::Folder;
using cufile_world::SimCufile;

constexpr std::uint32_t kBlocks = 20;  // nearer to a run of 256, as factors go, than to one block

struct DirectRig {
  explicit DirectRig(const DeviceRigOptions& options = {.kind = LayoutKind::kContiguous},
                     const DirectChoice& choice = kAlwaysDirect)
      : file(sim::library_path("libkvtier_sim_cufile.so")),
        driver(CufileDriver::get(machine.sim.library.path(), file.path())),
        directory(slab_rig::open_directory(folder.path())),
        rig(std::make_unique<DeviceRig>(machine, options)) {
    REQUIRE_MESSAGE(driver.is_ready(), driver.reason());
    auto slab = SlabStorage::open(*directory,
                                  {.group = 0, .shape = options.shape, .slot_count = options.slots, .direct = true});
    REQUIRE_MESSAGE(slab.is_ok(), slab.status().message());
    REQUIRE(slab.value()->recover(false).is_ok());
    const Status opened = slab.value()->open_direct(driver);
    REQUIRE_MESSAGE(opened.is_ok(), opened.message());
    rig->disk = rig->adopt(std::move(slab).value());
    enabled = rig->device->enable_direct(driver);
    rig->disk->choose_direct(rig->device->links()[0], choice);
  }
  ~DirectRig() {
    end();
    CHECK(file.count("buffers") == 0);
    CHECK(file.count("handles") == 0);
  }
  // Closes the device and the slab as their owners do.
  void end() {
    if (!rig) return;
    std::uint32_t ticket = 2'000'000;
    for (const auto& storage : {rig->device, rig->disk}) {
      REQUIRE(rig->client->close(storage, ++ticket).is_ok());
      CHECK(rig->reports.settled(ticket).code == Code::kOk);
    }
    rig.reset();
  }

  // Blocks on disk, and other bytes on the device.
  void store() const {
    rig->fill(rig->host, 0, kBlocks);
    rig->arrive(rig->request(TransferPath::kSeal, rig->host, rig->host, 0, kBlocks));
    rig->arrive(rig->store(0, kBlocks));
    rig->wipe_device();
  }
  [[nodiscard]] TransferRequest load() const {
    return rig->request(TransferPath::kSlabToMemory, rig->disk, rig->device, 0, kBlocks);
  }
  [[nodiscard]] TransferRequest store_from_device() const {
    return rig->request(TransferPath::kMemoryToSlab, rig->device, rig->disk, 0, kBlocks);
  }
  // A byte of a slot on disk changes.
  void spoil_slot(std::uint32_t slot) const {
    for (const auto& entry : std::filesystem::directory_iterator(directory->path())) {
      if (entry.path().extension() != ".slab") continue;
      std::fstream slab(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      slab.seekp(static_cast<std::streamoff>(slot * rig->options.shape.slot_stride() + 99));
      slab.put('x');
    }
  }
  // A load that waits for what the stream computes, which is held.
  [[nodiscard]] std::uint32_t start_load_behind(ProducerStream& engine) const {
    engine.hold();
    engine.compute(0x42);
    TransferRequest waiting = load();
    waiting.after.push_back(engine.fence());
    const std::uint32_t ticket = rig->start(std::move(waiting));
    REQUIRE(machine.sim.wait_for_calls("cuEventQuery", 20, 20'000) != 0);
    return ticket;
  }
  // What a load said has arrived holds its bytes.
  void check_arrived(const Reports::Entry& entry) const {
    const DevicePart& part = rig->device->storage().device_parts()[0];
    const std::uint64_t stride = rig->options.shape.slot_stride();
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      if (entry.outcomes[i] != make_outcome(Code::kOk, Stage::kTarget)) continue;
      std::vector<std::byte> bytes(stride);
      REQUIRE(machine.sim.read(part.regions[0] + stride * rig->slot_in(rig->device, i), bytes.data(), stride) != 0);
      std::byte* const base = bytes.data();
      CHECK(check_pattern({&rig->device->staging_layout(), &base}, 0, hash_of(i)));
    }
  }

  Machine machine;
  SimCufile file;
  const CufileDriver& driver;
  Folder folder;
  std::unique_ptr<StoreDirectory> directory;
  std::unique_ptr<DeviceRig> rig;
  Status enabled;
};

TEST_CASE("blocks go from disk to a device without a copy in host memory, and are verified there") {
  const DirectRig direct;
  REQUIRE_MESSAGE(direct.enabled.is_ok(), direct.enabled.message());
  direct.store();
  direct.rig->arrive(direct.load());
  CHECK(direct.file.calls("cuFileRead") > 0);
  CHECK(direct.file.slow_ways() == 0);
  CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks);
}

TEST_CASE("loads of the kinds that are chosen go directly, the others through host memory, and all arrive") {
  // In the order of DirectLoad: a block, a run into one piece, a run into scattered slots.
  for (const DirectLoad chosen : {DirectLoad::kBlock, DirectLoad::kRun, DirectLoad::kScattered}) {
    DirectChoice choice = kNeverDirect;
    choice[static_cast<std::size_t>(chosen)] = true;
    const DirectRig direct({.kind = LayoutKind::kContiguous}, choice);
    const auto load = [&](DirectLoad kind) {
      direct.store();
      TransferRequest request = direct.load();
      for (std::uint32_t i = 0; i < kBlocks; ++i) {
        // Device slots are given backwards: these are so many pieces as there are blocks.
        if (kind == DirectLoad::kRun) request.moves[i].target = i;
      }
      if (kind == DirectLoad::kBlock) {
        request.moves.resize(1);
        request.hashes.resize(1);
      }
      const std::uint64_t before = direct.file.calls("cuFileRead");
      const Reports::Entry entry = direct.rig->run(std::move(request));
      for (const Outcome outcome : entry.outcomes) CHECK(outcome == make_outcome(Code::kOk, Stage::kTarget));
      CHECK((direct.file.calls("cuFileRead") > before) == (kind == chosen));
    };
    load(DirectLoad::kBlock);
    CHECK(direct.rig->right(direct.rig->device, 0, 1) == 1);
    load(DirectLoad::kScattered);
    CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks);
    load(DirectLoad::kRun);
    TransferRequest check =
        direct.rig->request(TransferPath::kCheckPattern, direct.rig->device, direct.rig->device, 0, kBlocks);
    for (std::uint32_t i = 0; i < kBlocks; ++i) check.moves[i].source = i;
    for (const Outcome outcome : direct.rig->run(std::move(check)).outcomes) CHECK(code_of(outcome) == Code::kOk);
  }
}

TEST_CASE("a choice counts for the GPU that it was made for, and not for another one") {
  const DirectRig direct;
  const SharedStorage& disk = *direct.rig->disk;
  const auto other = DeviceLink::get(direct.machine.contexts[1]);
  REQUIRE(other.is_ok());
  CHECK(disk.loads_directly(direct.rig->device->links()[0], DirectLoad::kRun));
  CHECK_FALSE(disk.loads_directly(other.value(), DirectLoad::kRun));
  CHECK_FALSE(direct.rig->device->loads_directly(direct.rig->device->links()[0], DirectLoad::kRun));
}

TEST_CASE("blocks that keep a copy in host memory go through it") {
  const DirectRig direct;
  direct.store();
  TransferRequest load = direct.load();
  load.path = TransferPath::kSlabToMemoryVia;
  load.via = direct.rig->host;
  for (Move& move : load.moves) move.via = move.source;
  direct.rig->arrive(std::move(load));
  CHECK(direct.file.calls("cuFileRead") == 0);
  CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks);
}

TEST_CASE("blocks go from a device to disk directly, with the checksum that the device's bytes have") {
  DirectRig direct;
  direct.rig->fill(direct.rig->device, 0, kBlocks);
  direct.rig->arrive(direct.store_from_device());
  CHECK(direct.file.calls("cuFileWrite") > 0);
  direct.rig->arrive(direct.rig->request(TransferPath::kSlabToMemory, direct.rig->disk, direct.rig->host, 0, kBlocks));
  CHECK(direct.rig->right(direct.rig->host, 0, kBlocks) == kBlocks);
}

TEST_CASE("a block whose bytes changed on disk is a miss, and the others arrive") {
  DirectRig direct;
  direct.store();
  direct.spoil_slot(4);
  const Reports::Entry entry = direct.rig->run(direct.load());
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    CHECK(code_of(entry.outcomes[i]) == (i == 4 ? Code::kChecksum : Code::kOk));
  }
  CHECK(direct.file.calls("cuFileRead") > 0);
  CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks - 1);
}

TEST_CASE("a load that goes both ways is ready when all of it is verified, and not at all when a block is wrong") {
  const DirectRig direct({.kind = LayoutKind::kContiguous}, {false, false, true});
  // Sixteen blocks, into as many pieces, are one operation; the three after the gap are another, through host memory.
  constexpr std::uint32_t kGap = 16;
  const auto load = [&] {
    TransferRequest request = direct.load();
    request.moves.erase(request.moves.begin() + kGap);
    request.hashes.erase(request.hashes.begin() + kGap);
    auto made = ReadyEvents::make(direct.rig->device->links(), direct.rig->options.shape.layers);
    REQUIRE(made.is_ok());
    request.ready = std::move(made).value();
    return direct.rig->run(std::move(request));
  };
  direct.store();
  const std::uint64_t copies = direct.machine.sim.calls("cuMemcpyHtoDAsync");
  CHECK(load().ready == 1);
  CHECK(direct.file.calls("cuFileRead") == kGap);
  CHECK(direct.machine.sim.calls("cuMemcpyHtoDAsync") > copies);
  for (const std::uint32_t wrong : {4U, kGap + 2}) {
    direct.store();
    direct.spoil_slot(wrong);
    const Reports::Entry entry = load();
    CHECK(entry.ready == 0);
    CHECK(code_of(entry.outcomes[wrong < kGap ? wrong : wrong - 1]) == Code::kChecksum);
  }
}

TEST_CASE("short transfers are finished") {
  const DirectRig direct;
  direct.store();
  for (const std::size_t bytes : {1U, 4096U, 5000U}) {
    direct.rig->wipe_device();
    direct.file.shorten(1, bytes);
    direct.rig->arrive(direct.load());
    CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks);
  }
  direct.rig->fill(direct.rig->device, 0, kBlocks);
  direct.file.shorten(1, 4096);
  direct.rig->arrive(direct.store_from_device());
}

TEST_CASE("whichever call of cuFile or the driver fails, blocks arrive another way or are misses") {
  std::uint64_t failures = 0;
  DirectRig direct;
  for (const int code : {5, 5001, 5010, 5030}) {
    for (std::uint64_t nth = 1;; ++nth) {
      direct.store();
      const std::uint64_t before = direct.file.calls(nullptr);
      direct.file.fail_call(nullptr, nth, code, 1);
      const Reports::Entry entry = direct.rig->run(direct.load());
      direct.check_arrived(entry);
      const std::uint64_t made = direct.file.calls(nullptr) - before;
      direct.file.fail_call(nullptr, 1'000'000'000, code, 1);
      if (made < nth) break;
      ++failures;
      for (const Outcome outcome : entry.outcomes) CHECK(code_of(outcome) == Code::kOk);
    }
  }
  CHECK(failures >= 4);
  failures = 0;
  for (std::uint64_t nth = 1;; ++nth) {
    direct.store();
    const std::uint64_t before = direct.machine.sim.calls(nullptr);
    direct.machine.sim.fail_call(nullptr, nth, 1, 1);
    direct.check_arrived(direct.rig->run(direct.load()));
    const bool failed = direct.machine.sim.calls(nullptr) - before >= nth;
    direct.machine.sim.fail_nothing();
    if (!failed) break;
    ++failures;
  }
  CHECK(failures >= 4);
}

TEST_CASE("a direct load waits for its fence, for cuFile waits for no stream") {
  DirectRig direct;
  direct.store();
  ProducerStream engine(*direct.rig);
  const std::uint32_t ticket = direct.start_load_behind(engine);
  CHECK(direct.file.calls("cuFileRead") == 0);
  engine.release();
  const Reports::Entry entry = direct.rig->reports.settled(ticket);
  for (const Outcome outcome : entry.outcomes) CHECK(code_of(outcome) == Code::kOk);
  CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks);
}

TEST_CASE("an environment that ends without closing anything lets the registration go before the memory") {
  DirectRig direct;
  direct.store();
  direct.rig->arrive(direct.load());
  direct.rig->client->shutdown();
  direct.rig.reset();
  CHECK(direct.machine.sim.violations() == 0);
  CHECK(direct.machine.sim.count("allocations") == 0);
}

TEST_CASE("slabs that open at the same time make a device's memory fit for direct transfers once") {
  const DirectRig direct;
  const std::shared_ptr<const CudaContext> contexts[] = {direct.machine.contexts[0]};
  for (int round = 0; round < 30; ++round) {
    auto allocated = DeviceStorage::allocate(contexts, LayoutKind::kContiguous, direct.rig->options.shape, 4);
    REQUIRE(allocated.is_ok());
    const std::shared_ptr<SharedStorage> device = direct.rig->adopt(std::move(allocated).value());
    const std::uint64_t before = direct.file.count("buffers");
    std::atomic<int> waiting{2};
    const auto enable = [&] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();
      CHECK(device->enable_direct(direct.driver).is_ok());
      CHECK(device->direct_payload(3).has_value());
    };
    std::thread other(enable);
    enable();
    other.join();
    CHECK(direct.file.count("buffers") == before + 1);
    device->destroy();
    CHECK(direct.file.count("buffers") == before);
  }
}

TEST_CASE("a load that is ended while it waits for its fence is settled, whether the fence ever passes or not") {
  DirectRig direct;
  direct.store();
  ProducerStream engine(*direct.rig);
  const std::uint32_t ticket = direct.start_load_behind(engine);
  direct.rig->client->cancel(ticket, Code::kDeadline);
  const Reports::Entry entry = direct.rig->reports.settled(ticket);
  for (const Outcome outcome : entry.outcomes) CHECK(code_of(outcome) == Code::kDeadline);
  CHECK(direct.file.calls("cuFileRead") == 0);
  engine.release();
  REQUIRE(direct.machine.sim.cuda.stream_synchronize(engine.handle()) == cuda::Error::kSuccess);
}

TEST_CASE("memory whose blocks are not one piece each takes no direct transfers, and says so") {
  const DirectRig direct({.kind = LayoutKind::kLayersKvInner});
  CHECK(direct.enabled.code() == Code::kUnsupported);
  CHECK(!direct.enabled.message().empty());
  direct.store();
  direct.rig->arrive(direct.load());
  CHECK(direct.file.calls("cuFileRead") == 0);
  CHECK(direct.rig->right(direct.rig->device, 0, kBlocks) == kBlocks);
}

}  // namespace
}  // namespace kvtier
