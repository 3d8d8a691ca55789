#if defined(__linux__)
#include "platform/cufile/verify_direct.h"

#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>

#include "native/platform/cufile/cufile_world.h"
#include "platform/cufile/direct_scratch.h"
#include "platform/file_io.h"

using kvtier::Code;
using kvtier::FileIo;
using kvtier::Status;
using kvtier::cuda::Error;
using namespace kvtier::cufile_world;
using kvtier::sim::has;

namespace {

class ScopedFileIo {
 public:
  explicit ScopedFileIo(FileIo& io) : before_(kvtier::file_io()) { kvtier::replace_file_io(&io); }
  ~ScopedFileIo() { kvtier::replace_file_io(&before_); }
  ScopedFileIo(const ScopedFileIo&) = delete;
  ScopedFileIo& operator=(const ScopedFileIo&) = delete;

 private:
  // Of other tests, which are to find it again.
  FileIo& before_;
};

// A disk whose every call can be spoilt.
class SpoiltIo final : public FileIo {
 public:
  std::function<void(iovec)> after_read;
  bool loses_writes = false;
  int fail_at = 0;  // the call that fails, from 1
  int error = EIO;
  std::size_t longest = SIZE_MAX;
  int calls = 0;

  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    if (fails()) return -1;
    const iovec part{parts[0].iov_base, std::min(parts[0].iov_len, longest)};
    const ssize_t moved = FileIo::preadv(fd, &part, part_count, offset);
    if (after_read) after_read(part);
    return moved;
  }
  ssize_t pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    if (fails()) return -1;
    const iovec part{parts[0].iov_base, std::min(parts[0].iov_len, longest)};
    if (loses_writes) return static_cast<ssize_t>(part.iov_len);
    return FileIo::pwritev(fd, &part, part_count, offset);
  }
  int allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept override {
    return fails() ? error : FileIo::allocate(fd, offset, length);
  }

 private:
  bool fails() {
    errno = error;
    return ++calls == fail_at;
  }
};

// A machine and a folder, and what has to be as it was after a test.
struct Rig {
  explicit Rig(const char* settings = nullptr) : world(settings) {
    directory = ::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(directory >= 0);
    descriptors = open_descriptors();
  }
  ~Rig() { ::close(directory); }

  [[nodiscard]] Status verify() const {
    return kvtier::verify_direct(world.driver, world.primary, directory, folder.path());
  }
  void check_nothing_left() const {
    CHECK(folder.entries() == 0);
    CHECK(open_descriptors() == descriptors);
    CHECK(world.file.count("handles") == 0);
    CHECK(world.file.count("buffers") == 0);
    CHECK(world.sim.count("allocations") == 0);
    CHECK(world.sim.count("streams") == 0);
  }

  CufileWorld world;
  Folder folder;
  int directory = -1;
  std::size_t descriptors = 0;
};

}  // namespace

TEST_CASE("where direct transfers work the verdict is good, nothing took a slow way, and nothing is left behind") {
  const Rig rig;
  const Status status = rig.verify();
  CAPTURE(status.message());
  CHECK(status.is_ok());
  CHECK(rig.world.file.slow_ways() == 0);
  CHECK(rig.world.file.calls("cuFileRead") == 1);
  CHECK(rig.world.file.calls("cuFileWrite") == 1);
  rig.check_nothing_left();
}

TEST_CASE("the second GPU is tested on its own, by a thread that has no context") {
  const Rig rig;
  const auto second = rig.world.context_of(1);
  REQUIRE(rig.world.cuda.ctx_set_current(nullptr) == Error::kSuccess);
  CHECK(kvtier::verify_direct(rig.world.driver, second, rig.directory, rig.folder.path()).is_ok());
  kvtier::cuda::Context current = nullptr;
  CHECK(rig.world.cuda.ctx_get_current(&current) == Error::kSuccess);
  CHECK((current == nullptr));
  rig.check_nothing_left();
}

TEST_CASE("what a killed process left is removed, and a folder of that name is an error and stays") {
  const Rig rig;
  const std::string path = rig.folder.path() + "/" + kvtier::kDirectTestFile;
  std::ofstream(path) << "left behind";
  CHECK(rig.verify().is_ok());
  rig.check_nothing_left();
  std::filesystem::create_directory(path);
  CHECK_FALSE(rig.verify().is_ok());
  CHECK(std::filesystem::is_directory(path));
  std::filesystem::remove(path);
  rig.check_nothing_left();
}

TEST_CASE("short transfers on either side do not spoil the verdict") {
  const Rig rig;
  SpoiltIo io;
  io.longest = 25 * 4096;
  const ScopedFileIo scoped(io);
  for (const std::uint64_t nth : {1U, 2U, 4U}) rig.world.file.shorten(nth, 70'000);
  CHECK(rig.verify().is_ok());
  rig.check_nothing_left();
}

TEST_CASE("bytes that come back otherwise are noticed in both directions, and the first of them is named") {
  const Rig rig;
  SpoiltIo flips;
  flips.after_read = [](iovec part) { static_cast<unsigned char*>(part.iov_base)[777'777] ^= 1U; };
  Status status;
  {
    const ScopedFileIo scoped(flips);
    status = rig.verify();
  }
  CHECK(status.code() == Code::kIo);
  CHECK(has(status.message(), "what cuFile wrote from the GPU into " + rig.folder.path()));
  CHECK(has(status.message(), "is read back otherwise from byte 777777 on"));
  rig.check_nothing_left();

  SpoiltIo loses;
  loses.loses_writes = true;
  {
    const ScopedFileIo scoped(loses);
    status = rig.verify();
  }
  CHECK(status.code() == Code::kIo);
  CAPTURE(status.message());
  CHECK(has(status.message(), "is not what is in the file from byte "));
  rig.check_nothing_left();
}

TEST_CASE("the verdict names the folder, the GPU and the cause, and what cuFile can do where it refuses the file") {
  const Rig rig;
  rig.world.file.fail_call("cuFileHandleRegister", 1, 5008, 1);
  const Status status = rig.verify();
  CHECK(status.code() == Code::kUnsupported);
  for (const std::string& part : {rig.folder.path(), std::string("kvtier simulated GPU 0 (device 0)"),
                                  std::string("CU_FILE_IO_NOT_SUPPORTED (5008)"), std::string("ext4 or xfs on NVMe")}) {
    CAPTURE(status.message());
    CHECK(has(status.message(), part));
  }
  rig.check_nothing_left();
}

TEST_CASE("without cuFile, or with a GPU that cannot, nothing is tried") {
  const Rig rig("rdma=0");
  CHECK(rig.verify().code() == Code::kUnsupported);
  const auto& absent = absent_cufile();
  const Status status = kvtier::verify_direct(absent, rig.world.primary, rig.directory, rig.folder.path());
  CHECK(status.message() == absent.reason());
  CHECK(rig.world.sim.calls("cuMemAlloc") == 0);
  rig.check_nothing_left();
}

TEST_CASE("a folder in which no file can be made, and a disk that is full, are told apart") {
  const Rig rig;
  const int proc = ::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const Status status = kvtier::verify_direct(rig.world.driver, rig.world.primary, proc, "/proc");
  ::close(proc);
  CHECK_FALSE(status.is_ok());
  CHECK(has(status.message(), "making /proc/"));
  SpoiltIo io;
  io.fail_at = 1;
  io.error = ENOSPC;
  const ScopedFileIo scoped(io);
  CHECK(rig.verify().code() == Code::kNoSpace);
  rig.check_nothing_left();
}

TEST_CASE("whichever call of the disk fails, the verdict says so and nothing is left behind") {
  for (int fail_at = 1;; ++fail_at) {
    CAPTURE(fail_at);
    REQUIRE(fail_at < 100);
    const Rig rig;
    SpoiltIo io;
    io.fail_at = fail_at;
    Status status;
    {
      const ScopedFileIo scoped(io);
      status = rig.verify();
    }
    rig.check_nothing_left();
    CHECK(status.is_ok() == (io.calls < fail_at));
    if (io.calls < fail_at) break;
    CHECK(has(status.message(), rig.folder.path()));
  }
}

TEST_CASE("whichever call of cuFile fails, the verdict says so and nothing is left behind") {
  for (std::uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 100);
    const Rig rig;
    rig.world.file.fail_call(nullptr, nth, 5030, 1);
    const Status status = rig.verify();
    const bool reached = rig.world.file.calls(nullptr) >= nth;
    CAPTURE(status.message());
    // That a handle is given back cannot fail.
    if (reached && rig.world.file.calls("cuFileHandleDeregister") == 0) CHECK_FALSE(status.is_ok());
    if (!reached) CHECK(status.is_ok());
    if (has(status.message(), "cuFileBufDeregister")) {
      // The memory stays, for cuFile still has it.
      CHECK(rig.world.file.count("buffers") == 1);
      CHECK(rig.world.sim.count("allocations") == 1);
      CHECK(rig.folder.entries() == 0);
      // Whoever has it next takes the registration over.
      const std::string text = status.message().substr(status.message().find("at 0x") + 3);
      const kvtier::cuda::DevicePtr memory = std::strtoull(text.c_str(), nullptr, 16);
      CHECK(rig.world.buffer_of(memory, 4096).release().is_ok());
      CHECK(rig.world.cuda.mem_free(memory) == Error::kSuccess);
    } else {
      rig.check_nothing_left();
    }
    if (!reached) {
      CHECK(nth == 7);
      break;
    }
  }
}

TEST_CASE("whichever call of the CUDA driver fails, nothing is left behind but what that call was to give back") {
  for (std::uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 200);
    const Rig rig;
    const std::uint64_t before = rig.world.sim.calls(nullptr);
    const std::uint64_t frees = rig.world.sim.calls("cuMemFree");
    rig.world.sim.fail_call(nullptr, nth, static_cast<int>(Error::kUnknown), 1);
    const Status status = rig.verify();
    const bool reached = rig.world.sim.calls(nullptr) - before >= nth;
    CHECK(rig.folder.entries() == 0);
    CHECK(rig.world.file.count("handles") == 0);
    CHECK(rig.world.file.count("buffers") == 0);
    CHECK(rig.world.sim.calls("cuMemFree") - frees <= 1);
    CHECK(rig.world.sim.count("allocations") <= 1);
    if (!reached) {
      CHECK(status.is_ok());
      CHECK(nth > 10);
      rig.check_nothing_left();
      break;
    }
  }
}

TEST_CASE("memory that a copy may still use is not freed before the copy has run") {
  const Rig rig("hold=1");
  const std::uint64_t before = rig.world.sim.calls("cuStreamSynchronize");
  rig.world.sim.fail_call("cuStreamSynchronize", 1, static_cast<int>(Error::kUnknown), 1);
  // The first wait fails at once while the copy is held; the second is what lets the work go on.
  std::thread releaser([&] {
    (void)rig.world.sim.wait_for_calls("cuStreamSynchronize", before + 2, 10'000);
    rig.world.sim.release();
  });
  CHECK(has(rig.verify().message(), "cuStreamSynchronize"));
  releaser.join();
  CHECK(rig.world.sim.calls("cuStreamSynchronize") - before == 2);
  rig.check_nothing_left();
}
#endif
