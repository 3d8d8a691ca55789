// What measuring direct transfers gives, how little it may take, and that nothing of it stays, whatever fails. The
// figures themselves mean nothing on a simulated machine.
#if defined(__linux__)
#include "transfer/device/measure_direct.h"

#include <functional>
#include <numeric>
#include <thread>

#include "native/platform/cufile/cufile_world.h"
#include "native/storage/slab/slab_rig.h"
#include "platform/cufile/direct_scratch.h"

using namespace kvtier;
using namespace kvtier::cufile_world;
using kvtier::sim::has;

namespace {

constexpr std::uint64_t kStride = 8 << 10;
// No test depends on the time that it takes.
constexpr unsigned kNoLimit = 600'000;
// Two runs of eight blocks.
constexpr DirectMeasureOptions kSmall{
    .most_bytes = 64 << 10, .rounds = 1, .budget_ms = kNoLimit, .give_up_ms = kNoLimit};

// A disk whose every call can be spoilt.
class SpoiltIo final : public FileIo {
 public:
  int fail_at = 0;   // the call that fails, from 1
  int flips_at = 0;  // the read that brings a wrong byte
  int calls = 0;
  int reads = 0;
  int writes = 0;
  std::uint64_t written_bytes = 0;

  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    ++reads;
    if (fails()) return -1;
    const ssize_t moved = FileIo::preadv(fd, parts, part_count, offset);
    if (reads == flips_at) static_cast<unsigned char*>(parts[0].iov_base)[parts[0].iov_len - 1] ^= 1U;
    return moved;
  }
  ssize_t pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    ++writes;
    if (fails()) return -1;
    written_bytes += parts[0].iov_len;
    return FileIo::pwritev(fd, parts, part_count, offset);
  }
  int allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept override {
    return fails() ? EIO : FileIo::allocate(fd, offset, length);
  }

 private:
  bool fails() {
    errno = EIO;
    return ++calls == fail_at;
  }
};

// A machine, a GPU in use and a folder, and what has to be as it was after a measurement.
struct Rig {
  explicit Rig(const char* settings = "lateness_us=0") : world(settings) {
    directory = ::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(directory >= 0);
    auto made = DeviceLink::get(world.primary);
    REQUIRE(made.is_ok());
    link = std::move(made).value();
    for (const char* what : kCounted) before.push_back(world.sim.count(what));
    descriptors = open_descriptors();
  }
  ~Rig() {
    link.reset();
    ::close(directory);
  }

  [[nodiscard]] Result<DirectFigures> measure(const DirectMeasureOptions& options = kSmall,
                                              std::uint64_t stride = kStride) const {
    return measure_direct(world.driver, *link, directory, folder.path(), stride, options);
  }
  // What of each kind there is more than before.
  [[nodiscard]] std::vector<std::uint64_t> left() const {
    std::vector<std::uint64_t> left;
    for (std::size_t i = 0; i < before.size(); ++i) left.push_back(world.sim.count(kCounted[i]) - before[i]);
    return left;
  }
  void check_nothing_left() const {
    CHECK(folder.entries() == 0);
    CHECK(open_descriptors() == descriptors);
    CHECK(world.file.count("handles") == 0);
    CHECK(world.file.count("buffers") == 0);
    CHECK(left() == std::vector<std::uint64_t>(before.size()));
  }

  static constexpr const char* kCounted[] = {"allocations", "streams", "events", "registrations"};
  CufileWorld world;
  Folder folder;
  int directory = -1;
  std::shared_ptr<DeviceLink> link;
  std::vector<std::uint64_t> before;
  std::size_t descriptors = 0;
};

}  // namespace

TEST_CASE("direct measurement: every kind of load has a figure of both ways, and nothing is left behind") {
  const Rig rig;
  const auto figures = rig.measure();
  REQUIRE_MESSAGE(figures.is_ok(), figures.status().message());
  for (const DirectFigure& load : figures.value().loads) CHECK(load.is_measured());
  CHECK(figures.value().block_bytes == kStride);
  CHECK(figures.value().run_bytes == 64 << 10);
  CHECK(rig.world.file.slow_ways() == 0);
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: both ways take turns over a file that was written, and no way more often than asked") {
  const Rig rig;
  SpoiltIo io;
  const slab_rig::ScopedFileIo scoped(io);
  const std::uint64_t copies = rig.world.sim.calls("cuMemcpyHtoDAsync");
  REQUIRE(rig.measure({.most_bytes = 64 << 10, .rounds = 3, .budget_ms = kNoLimit, .give_up_ms = kNoLimit}).is_ok());
  CHECK(io.writes == 4);
  CHECK(io.written_bytes == 4 * 64 << 10);
  // Four rounds, the first of which does not count: a block, a run, and eight blocks each by itself.
  CHECK(rig.world.file.calls("cuFileRead") == 4 * (1 + 1 + 8));
  CHECK(io.reads == 4 * 3);
  CHECK(rig.world.sim.calls("cuMemcpyHtoDAsync") - copies == 4 * (1 + 1 + 8));
  CHECK(rig.world.file.calls("cuFileWrite") == 0);
}

TEST_CASE("direct measurement: no further round is begun when the time is over, but one counts") {
  const Rig rig;
  const auto figures = rig.measure({.most_bytes = 64 << 10, .rounds = 50, .budget_ms = 0, .give_up_ms = kNoLimit});
  REQUIRE(figures.is_ok());
  for (const DirectFigure& load : figures.value().loads) CHECK(load.is_measured());
  CHECK(rig.world.file.calls("cuFileRead") == 2 * (1 + 1 + 8));
}

TEST_CASE("direct measurement: a disk that is too slow is left alone before all is written, and says so") {
  const Rig rig;
  SpoiltIo io;
  const slab_rig::ScopedFileIo scoped(io);
  const auto figures = rig.measure({.most_bytes = 64 << 10, .rounds = 9, .budget_ms = kNoLimit, .give_up_ms = 0});
  CHECK(figures.status().code() == Code::kDeadline);
  CHECK(has(figures.status().message(), "0 ms were not enough"));
  CHECK(io.writes == 0);
  CHECK(rig.world.file.calls("cuFileRead") == 0);
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: a run is what an operation reads at most, and memory and file are bounded") {
  const Rig rig;
  SpoiltIo io;
  const slab_rig::ScopedFileIo scoped(io);
  // 21 blocks of 96 KiB are a run of less than 2 MiB.
  const auto runs = rig.measure({.rounds = 1, .budget_ms = kNoLimit, .give_up_ms = kNoLimit}, 96 << 10);
  REQUIRE(runs.is_ok());
  CHECK(runs.value().run_bytes == std::uint64_t{21} * (96 << 10));
  CHECK(io.written_bytes == 4 * runs.value().run_bytes);
  io.written_bytes = 0;
  const std::uint64_t reads = rig.world.file.calls("cuFileRead");
  const auto large = rig.measure({.rounds = 1, .budget_ms = kNoLimit, .give_up_ms = kNoLimit}, 64 << 20);
  REQUIRE(large.is_ok());
  CHECK(large.value().block_bytes == 8 << 20);
  CHECK(large.value().run_bytes == 8 << 20);
  CHECK(io.written_bytes == 16 << 20);
  // There is one kind of load then.
  CHECK(rig.world.file.calls("cuFileRead") - reads == 2);
  for (const DirectFigure& load : large.value().loads) {
    CHECK(load.direct_gigabytes_per_second == large.value().loads[0].direct_gigabytes_per_second);
  }
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: what a killed process left is removed") {
  const Rig rig;
  std::ofstream(rig.folder.path() + "/" + kDirectTestFile) << "left behind";
  CHECK(rig.measure().is_ok());
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: two in one directory at once take no file from each other") {
  const Rig rig;
  std::vector<Status> failures(2);
  const auto measure = [&](Status& failure) {
    for (int round = 0; round < 5 && failure.is_ok(); ++round) failure = rig.measure().status();
  };
  std::thread other([&] { measure(failures[1]); });
  measure(failures[0]);
  other.join();
  for (const Status& failure : failures) CHECK_MESSAGE(failure.is_ok(), failure.message());
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: a way that brings other bytes than were written has no figure") {
  const Rig rig;
  SpoiltIo io;
  io.flips_at = 2;
  {
    const slab_rig::ScopedFileIo scoped(io);
    const auto figures = rig.measure();
    CHECK(figures.status().code() == Code::kIo);
    CHECK(has(figures.status().message(), "what was read through host memory from " + rig.folder.path()));
  }
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: short transfers are finished") {
  const Rig rig;
  for (const std::uint64_t nth : {1U, 2U, 5U}) rig.world.file.shorten(nth, 5000);
  CHECK(rig.measure().is_ok());
  rig.check_nothing_left();
}

TEST_CASE("direct measurement: whichever call of the disk fails, it says so and nothing is left behind") {
  const Rig rig;
  for (int fail_at = 1;; ++fail_at) {
    CAPTURE(fail_at);
    REQUIRE(fail_at < 100);
    SpoiltIo io;
    io.fail_at = fail_at;
    Status status;
    {
      const slab_rig::ScopedFileIo scoped(io);
      status = rig.measure().status();
    }
    rig.check_nothing_left();
    CHECK(status.is_ok() == (io.calls < fail_at));
    if (io.calls < fail_at) break;
    CHECK(has(status.message(), rig.folder.path()));
  }
}

TEST_CASE("direct measurement: whichever call of cuFile fails, it says so and nothing is left behind") {
  const Rig rig;
  for (std::uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 100);
    rig.world.file.reset(nullptr);
    rig.world.file.fail_call(nullptr, nth, 5030, 1);
    const Status status = rig.measure().status();
    const bool reached = rig.world.file.calls(nullptr) >= nth;
    CAPTURE(status.message());
    // That a handle is given back cannot fail; it is the last call but the library's own.
    if (!reached) {
      CHECK(status.is_ok());
      CHECK(nth > 10);
      rig.check_nothing_left();
      break;
    }
    if (has(status.message(), "cuFileBufDeregister")) {
      // The memory stays, for cuFile still has it; whoever has it next takes the registration over.
      CHECK(rig.world.file.count("buffers") == 1);
      const std::string text = status.message().substr(status.message().find("at 0x") + 3);
      const cuda::DevicePtr memory = std::strtoull(text.c_str(), nullptr, 16);
      CHECK(rig.world.buffer_of(memory, 4096).release().is_ok());
      CHECK((rig.world.cuda.mem_free(memory) == cuda::Error::kSuccess));
    }
    rig.check_nothing_left();
  }
}

TEST_CASE("direct measurement: whichever call of the driver fails, nothing stays but what that call was to give back") {
  auto rig = std::make_unique<Rig>();
  std::uint64_t failures = 0;
  for (std::uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 400);
    const sim::SimDriver& driver = rig->world.sim;
    const std::uint64_t before = driver.calls(nullptr);
    driver.fail_call(nullptr, nth, static_cast<int>(cuda::Error::kUnknown), 1);
    const auto figures = rig->measure();
    const bool reached = driver.calls(nullptr) - before >= nth;
    driver.fail_nothing();
    failures += figures.is_ok() ? 0U : 1U;
    const std::vector<std::uint64_t> left = rig->left();
    const std::uint64_t kept = std::accumulate(left.begin(), left.end(), std::uint64_t{0});
    CHECK(kept <= 1);
    if (kept == 0) {
      rig->check_nothing_left();
    } else {
      CHECK(rig->folder.entries() == 0);
      rig = nullptr;
      rig = std::make_unique<Rig>();
    }
    if (reached) continue;
    CHECK(figures.is_ok());
    break;
  }
  CHECK(failures > 20);
}

TEST_CASE("direct measurement: copies that cannot be waited for keep the memory that they read") {
  const Rig rig("lateness_us=20000");
  const sim::SimDriver& driver = rig.world.sim;
  // The first wait is for the checksum of what came directly, the second for the first copy from host memory.
  driver.fail_call("cuStreamSynchronize", 2, static_cast<int>(cuda::Error::kUnknown), 0);
  const Status status = rig.measure().status();
  driver.fail_nothing();
  CHECK(has(status.message(), "cuStreamSynchronize"));
  CHECK(rig.folder.entries() == 0);
  CHECK(rig.world.file.count("handles") == 0);
  CHECK(rig.world.file.count("buffers") == 0);
  // The world sees to it that nothing which is queued touches memory that has gone.
}
#endif
