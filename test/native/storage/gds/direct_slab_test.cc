// Runs that go between a slab's slots and a GPU's memory directly. Must hold: the same bytes as the system's way, and
// the same records; a run whose write failed is not stored, whichever call failed, at run time and after a restart.
#if defined(__linux__)
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <optional>

#include "native/platform/cufile/cufile_world.h"
#include "native/storage/slab/slab_rig.h"

using kvtier::BlockRecord;
using kvtier::Code;
using kvtier::CufileBuffer;
using kvtier::DevicePayload;
using kvtier::FileIo;
using kvtier::SlabStorage;
using kvtier::Status;
using kvtier::cuda::DevicePtr;
using kvtier::cufile_world::CufileWorld;
using kvtier::cufile_world::Folder;
using kvtier::sim::has;
using namespace kvtier::slab_rig;

namespace {

constexpr std::uint32_t kSlots = 16;
constexpr std::size_t kDeviceSlots = 16;

// A GPU with room for some blocks, and a slab that can be reached from it.
class Rig {
 public:
  explicit Rig(const char* settings = nullptr) : world(settings) {
    directory = open_directory(folder.path());
    memory = world.allocate(kDeviceSlots * kStride, 0);
    buffer.emplace(world.buffer_of(memory, kDeviceSlots * kStride));
    open();
  }

  void open() {
    slab.reset();
    slab = open_slab_storage(*directory, options_of(kSlots));
    (void)recover(*slab);
    const Status status = slab->open_direct(world.driver);
    if (!status.is_ok()) FAIL(status.message());
  }

  // A place on the device, with the payload of a block in it where one is named.
  [[nodiscard]] DevicePayload place(std::size_t device_slot) const {
    return {.buffer = &*buffer, .offset = device_slot * kStride};
  }
  [[nodiscard]] DevicePayload place(std::size_t device_slot, std::uint64_t number) const {
    const Payloads payload(1);
    fill_payload(payload.at(0), number);
    REQUIRE(world.sim.write(memory + device_slot * kStride, payload.at(0), kStride) == 1);
    return place(device_slot);
  }

  // Stores blocks from these places of the device.
  [[nodiscard]] Status store_from(std::uint32_t first_slot, const std::vector<std::uint64_t>& numbers,
                                  const std::vector<std::size_t>& device_slots) const {
    std::vector<DevicePayload> payloads;
    std::vector<BlockRecord> records;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      payloads.push_back(place(device_slots[i], numbers[i]));
      const Payloads payload(1);
      fill_payload(payload.at(0), numbers[i]);
      records.push_back(record_of(numbers[i], payload.block(0)));
    }
    return slab->write_run_from_device(first_slot, payloads, records);
  }

  // Loads a slot to the device and looks at it as the engine does: only what passes the check is a hit.
  [[nodiscard]] Found load_to(std::uint32_t slot, std::uint64_t number, std::size_t device_slot = 0) const {
    const DevicePayload payload = place(device_slot);
    if (!slab->read_run_to_device(slot, {&payload, 1}).is_ok()) return Found::kMiss;
    const Payloads got(1);
    const Payloads expected(1);
    fill_payload(expected.at(0), number);
    REQUIRE(world.sim.read(memory + device_slot * kStride, got.at(0), kStride) == 1);
    const kvtier::Checksum computed =
        kvtier::payload_checksum(got.block(0), kShape.part_bytes(), kvtier::seed_of(hash_of(number)));
    if (!kvtier::checksum_matches(slab->checksum_at(slot), computed)) return Found::kMiss;
    return std::memcmp(got.at(0), expected.at(0), kStride) == 0 ? Found::kHit : Found::kWrong;
  }

  CufileWorld world;
  Folder folder;
  std::unique_ptr<kvtier::StoreDirectory> directory;
  DevicePtr memory = 0;
  std::optional<CufileBuffer> buffer;
  std::unique_ptr<SlabStorage> slab;
};

// Lets one call of the system fail.
class FailingIo final : public FileIo {
 public:
  explicit FailingIo(int fail_at) : fail_at_(fail_at) {}
  [[nodiscard]] bool reached() const { return calls_ >= fail_at_; }
  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    return fails() ? -1 : FileIo::preadv(fd, parts, part_count, offset);
  }
  ssize_t pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    return fails() ? -1 : FileIo::pwritev(fd, parts, part_count, offset);
  }

 private:
  bool fails() {
    errno = EIO;
    return ++calls_ == fail_at_;
  }
  int fail_at_;
  int calls_ = 0;
};

}  // namespace

TEST_CASE("blocks that were written from a GPU are read by the system, and after a restart") {
  Rig rig;
  CHECK(rig.slab->info().direct_device);
  REQUIRE(rig.store_from(3, {1000, 1001, 1002}, {4, 5, 6}).is_ok());
  for (std::uint32_t i = 0; i < 3; ++i) CHECK(load(*rig.slab, 3 + i, 1000 + i) == Found::kHit);
  rig.open();
  for (std::uint32_t i = 0; i < 3; ++i) CHECK(load(*rig.slab, 3 + i, 1000 + i) == Found::kHit);
  CHECK(load(*rig.slab, 6, 1003) == Found::kMiss);
  CHECK(rig.world.file.slow_ways() == 0);
}

TEST_CASE("blocks that were written by the system are read to a GPU, each to its place") {
  const Rig rig;
  REQUIRE(store(*rig.slab, 0, {1000, 1001, 1002, 1003}).is_ok());
  const std::vector<DevicePayload> payloads = {rig.place(9), rig.place(2), rig.place(3), rig.place(0)};
  CHECK(rig.slab->read_run_to_device(0, payloads).is_ok());
  const std::map<std::size_t, std::uint64_t> expected = {{9, 1000}, {2, 1001}, {3, 1002}, {0, 1003}};
  for (std::size_t slot = 0; slot < kDeviceSlots; ++slot) {
    CAPTURE(slot);
    const auto found = expected.find(slot);
    const Payloads payload(1);
    if (found != expected.end()) fill_payload(payload.at(0), found->second);
    const auto got = rig.world.read(rig.memory + slot * kStride, kStride);
    CHECK(std::memcmp(got.data(), payload.at(0), kStride) == 0);
  }
  CHECK(rig.world.file.slow_ways() == 0);
}

TEST_CASE("slots whose memory is one piece go in one transfer") {
  const Rig rig;
  REQUIRE(rig.store_from(0, {1000, 1001, 1002, 1003, 1004, 1005}, {3, 4, 5, 9, 8, 10}).is_ok());
  CHECK(rig.world.file.calls("cuFileWrite") == 4);  // 3 to 5, 9, 8, 10
  for (std::uint32_t i = 0; i < 6; ++i) CHECK(load(*rig.slab, i, 1000 + i) == Found::kHit);
}

TEST_CASE("neighbours in other registered memory are other transfers") {
  const Rig rig;
  const DevicePtr second = rig.world.allocate(kDeviceSlots * kStride, 0);
  const CufileBuffer other = rig.world.buffer_of(second, kDeviceSlots * kStride);
  REQUIRE(store(*rig.slab, 0, {1000, 1001}).is_ok());
  const std::vector<DevicePayload> payloads = {rig.place(0), {.buffer = &other, .offset = kStride}};
  CHECK(rig.slab->read_run_to_device(0, payloads).is_ok());
  const Payloads expected(2);
  fill_payload(expected.at(0), 1000);
  fill_payload(expected.at(1), 1001);
  CHECK(std::memcmp(rig.world.read(rig.memory, kStride).data(), expected.at(0), kStride) == 0);
  CHECK(std::memcmp(rig.world.read(second + kStride, kStride).data(), expected.at(1), kStride) == 0);
}

TEST_CASE("one run can reach two GPUs, from a thread that has the context of neither") {
  const Rig rig;
  const auto context = rig.world.context_of(1);
  const auto& cuda = rig.world.cuda;
  REQUIRE(cuda.ctx_set_current(context->handle()) == kvtier::cuda::Error::kSuccess);
  const DevicePtr second = rig.world.allocate(kStride, 0);
  REQUIRE(cuda.ctx_set_current(nullptr) == kvtier::cuda::Error::kSuccess);
  auto made = CufileBuffer::register_range(rig.world.driver, context, second, kStride);
  REQUIRE(made.is_ok());
  REQUIRE(store(*rig.slab, 0, {1000, 1001}).is_ok());
  const std::vector<DevicePayload> payloads = {rig.place(3), {.buffer = &made.value(), .offset = 0}};
  CHECK(rig.slab->read_run_to_device(0, payloads).is_ok());
  const Payloads expected(1);
  fill_payload(expected.at(0), 1001);
  CHECK(std::memcmp(rig.world.read(second, kStride).data(), expected.at(0), kStride) == 0);
  CHECK(rig.load_to(0, 1000, 3) == Found::kHit);
}

TEST_CASE("short transfers of a run are carried on") {
  for (const std::size_t length : {100U, 4096U, 12'000U}) {
    CAPTURE(length);
    const Rig rig;
    for (std::uint64_t nth = 1; nth <= 3; ++nth) rig.world.file.shorten(nth, length);
    REQUIRE(rig.store_from(2, {1000, 1001}, {0, 1}).is_ok());
    for (std::uint64_t nth = 1; nth <= 3; ++nth) rig.world.file.shorten(nth, length);
    CHECK(rig.load_to(2, 1000, 7) == Found::kHit);
    CHECK(rig.load_to(3, 1001, 8) == Found::kHit);
  }
}

TEST_CASE("whichever transfer of a write fails, no block of the run is stored, and others are untouched") {
  for (std::uint64_t nth = 1;; ++nth) {
    for (const int code : {EIO, 5044}) {
      CAPTURE(nth);
      CAPTURE(code);
      REQUIRE(nth < 20);
      Rig rig;
      REQUIRE(store(*rig.slab, 0, {5000, 6000, 7000, 8000, 9000}).is_ok());
      rig.world.file.fail_call("cuFileWrite", nth, code, 1);
      const Status status = rig.store_from(1, {1000, 1001, 1002}, {0, 2, 3});
      const bool reached = rig.world.file.calls("cuFileWrite") >= nth;
      CHECK(status.is_ok() != reached);
      if (reached) CHECK(status.code() == Code::kIo);
      for (const bool restarted : {false, true}) {
        CAPTURE(restarted);
        if (restarted) rig.open();
        for (std::uint32_t i = 0; i < 3; ++i) {
          CHECK(load(*rig.slab, 1 + i, 1000 + i) == (reached ? Found::kMiss : Found::kHit));
          CHECK(load(*rig.slab, 1 + i, 6000 + 1000 * i) == Found::kMiss);
        }
        CHECK(load(*rig.slab, 0, 5000) == Found::kHit);
        CHECK(load(*rig.slab, 4, 9000) == Found::kHit);
      }
      if (!reached) {
        CHECK(nth == 3);  // two pieces
        return;
      }
    }
  }
}

TEST_CASE("where the records cannot be written the run is not stored either") {
  Rig rig;
  FailingIo io(1);
  {
    const ScopedFileIo scoped(io);
    CHECK(rig.store_from(1, {1000, 1001}, {0, 1}).code() == Code::kIo);
  }
  CHECK(io.reached());
  rig.open();
  CHECK(load(*rig.slab, 1, 1000) == Found::kMiss);
  CHECK(load(*rig.slab, 2, 1001) == Found::kMiss);
}

TEST_CASE("whichever transfer of a read fails, the run is an error and the next one works") {
  const Rig rig;
  REQUIRE(store(*rig.slab, 0, {1000, 1001, 1002}).is_ok());
  const std::vector<DevicePayload> payloads = {rig.place(0), rig.place(5), rig.place(9)};
  for (std::uint64_t nth = 1; nth <= 3; ++nth) {
    rig.world.file.fail_call("cuFileRead", nth, EIO, 1);
    CHECK(rig.slab->read_run_to_device(0, payloads).code() == Code::kIo);
  }
  CHECK(rig.slab->read_run_to_device(0, payloads).is_ok());
  CHECK(rig.load_to(1, 1001) == Found::kHit);
}

TEST_CASE("bytes that changed on the disk arrive as they are, and fail the check") {
  const Rig rig;
  REQUIRE(rig.store_from(0, {1000}, {0}).is_ok());
  flip_byte(slab_path(*rig.directory), 4321);
  CHECK(rig.load_to(0, 1000) == Found::kMiss);
}

TEST_CASE("memory that is not aligned or too small is refused, and a run from it counts as not stored") {
  Rig rig;
  REQUIRE(store(*rig.slab, 0, {5000}).is_ok());
  const Payloads payload(1);
  fill_payload(payload.at(0), 1000);
  const BlockRecord record = record_of(1000, payload.block(0));
  for (const std::uint64_t offset : {std::uint64_t{512}, kDeviceSlots * kStride, (kDeviceSlots - 1) * kStride + 4096}) {
    CAPTURE(offset);
    const DevicePayload place{.buffer = &*rig.buffer, .offset = offset};
    CHECK(rig.slab->write_run_from_device(0, {&place, 1}, {&record, 1}).code() == Code::kInvalidValue);
    CHECK(rig.slab->read_run_to_device(0, {&place, 1}).code() == Code::kInvalidValue);
  }
  CHECK(rig.world.file.calls("cuFileWrite") == 0);
  CHECK(load(*rig.slab, 0, 1000) == Found::kMiss);
}

TEST_CASE("slots that the slab does not have are refused, and an empty run is nothing") {
  const Rig rig;
  const std::vector<DevicePayload> payloads = {rig.place(0), rig.place(1)};
  const std::vector<BlockRecord> records(2);
  CHECK(rig.slab->read_run_to_device(kSlots - 1, payloads).code() == Code::kSlotOutOfRange);
  CHECK(rig.slab->write_run_from_device(kSlots - 1, payloads, records).code() == Code::kSlotOutOfRange);
  CHECK(rig.slab->read_run_to_device(kSlots, {}).is_ok());
  CHECK(rig.world.file.calls("cuFileRead") + rig.world.file.calls("cuFileWrite") == 0);
}

TEST_CASE("a slab is reached directly only when it was opened for it, and works without") {
  const CufileWorld world;
  const Folder folder;
  const auto directory = open_directory(folder.path());
  const auto buffer = world.buffer_of(world.allocate(kStride), kStride);
  const DevicePayload place{.buffer = &buffer, .offset = 0};
  const auto expect_none = [&](SlabStorage& slab) {
    CHECK_FALSE(slab.info().direct_device);
    CHECK(slab.read_run_to_device(0, {&place, 1}).code() == Code::kUnsupported);
    const BlockRecord record{};
    CHECK(slab.write_run_from_device(0, {&place, 1}, {&record, 1}).code() == Code::kUnsupported);
    CHECK(load(slab, 0, 1000) == Found::kHit);
  };
  {
    const auto slab = open_slab_storage(*directory, options_of(kSlots));
    REQUIRE(store(*slab, 0, {1000}).is_ok());
    expect_none(*slab);
    // cuFile refuses, or is not there.
    world.file.fail_call("cuFileHandleRegister", 1, 5008, 1);
    CHECK(slab->open_direct(world.driver).code() == Code::kUnsupported);
    const auto& absent = kvtier::cufile_world::absent_cufile();
    CHECK(slab->open_direct(absent).message() == absent.reason());
    expect_none(*slab);
  }
  {
    const auto slab = open_slab_storage(*directory, options_of(kSlots, false));
    (void)recover(*slab);
    const Status status = slab->open_direct(world.driver);
    CHECK(status.code() == Code::kUnsupported);
    CHECK(has(status.message(), "O_DIRECT"));
    expect_none(*slab);
  }
  const auto looked_at = kvtier::StoreDirectory::open_read_only(directory->path());
  REQUIRE(looked_at.is_ok());
  auto slab = SlabStorage::open_read_only(*looked_at.value(), 0);
  REQUIRE(slab.is_ok());
  (void)recover(*slab.value());
  CHECK(slab.value()->open_direct(world.driver).code() == Code::kNotWritable);
  expect_none(*slab.value());
}

TEST_CASE("the slab stays locked while it is reached directly, and gives everything back when it is closed") {
  Rig rig;
  rig.slab.reset();
  const std::size_t before = kvtier::cufile_world::open_descriptors();
  rig.open();
  CHECK(rig.world.file.count("handles") == 1);
  CHECK(SlabStorage::open(*rig.directory, options_of(kSlots)).status().code() == Code::kLocked);
  rig.slab.reset();
  CHECK(rig.world.file.count("handles") == 0);
  CHECK(kvtier::cufile_world::open_descriptors() == before);
  CHECK(SlabStorage::open(*rig.directory, options_of(kSlots)).is_ok());
}
#endif
