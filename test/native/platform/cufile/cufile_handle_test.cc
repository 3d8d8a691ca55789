#if defined(__linux__)
#include "platform/cufile/cufile_handle.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

#include "native/platform/cufile/cufile_world.h"

using kvtier::Code;
using kvtier::CufileBuffer;
using kvtier::CufileHandle;
using kvtier::Status;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Error;
using namespace kvtier::cufile_world;
using kvtier::sim::has;

namespace {

constexpr std::size_t kBytes = 256 << 10;

// A file of `kBytes` that is open as a slab is: without O_DIRECT, not following links. And registered device memory.
struct Rig {
  explicit Rig(const char* settings = nullptr) : world(settings) {
    path = folder.path() + "/data";
    fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(::ftruncate(fd, kBytes) == 0);
    memory = world.allocate(kBytes, 0);
    buffer.emplace(world.buffer_of(memory, kBytes));
    auto opened = CufileHandle::open(world.driver, fd, path);
    if (!opened.is_ok()) FAIL(opened.status().message());
    file.emplace(std::move(opened).value());
  }
  ~Rig() { ::close(fd); }

  void set_device(const std::vector<unsigned char>& bytes, std::uint64_t offset = 0) const {
    REQUIRE(world.sim.write(memory + offset, bytes.data(), bytes.size()) == 1);
  }
  [[nodiscard]] std::vector<unsigned char> device(std::size_t count, std::uint64_t offset = 0) const {
    return world.read(memory + offset, count);
  }
  void set_file(const std::vector<unsigned char>& bytes, off_t offset = 0) const {
    REQUIRE(::pwrite(fd, bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] std::vector<unsigned char> disk(std::size_t count, off_t offset = 0) const {
    std::vector<unsigned char> bytes(count);
    REQUIRE(::pread(fd, bytes.data(), count, offset) == static_cast<ssize_t>(count));
    return bytes;
  }

  CufileWorld world;
  Folder folder;
  std::string path;
  int fd = -1;
  DevicePtr memory = 0;
  std::optional<CufileBuffer> buffer;
  std::optional<CufileHandle> file;
};

}  // namespace

TEST_CASE("what is written from the device is what the system reads, and the other way round, all by the direct way") {
  const Rig rig;
  const auto written = bytes_from(65536, 1);
  rig.set_device(written, 8192);
  CHECK(rig.file->write(4096, *rig.buffer, 8192, 65536).is_ok());
  CHECK(rig.disk(65536, 4096) == written);
  CHECK(rig.disk(4096) == kvtier::sim::bytes_of(4096, 0));
  const auto other = bytes_from(65536, 2);
  rig.set_file(other, 131072);
  CHECK(rig.file->read(131072, *rig.buffer, 4096, 65536).is_ok());
  CHECK(rig.device(65536, 4096) == other);
  CHECK(rig.device(4096) == kvtier::sim::bytes_of(4096, 0));
  CHECK(rig.world.file.slow_ways() == 0);
  CHECK(rig.world.file.calls("cuFileRead") == 1);
  CHECK(rig.world.file.calls("cuFileWrite") == 1);
}

TEST_CASE("the file is opened once more, and what the caller has open and locked stays as it is") {
  Rig rig;
  REQUIRE(::flock(rig.fd, LOCK_EX | LOCK_NB) == 0);
  const int flags = ::fcntl(rig.fd, F_GETFL);
  CHECK((flags & O_NOFOLLOW) != 0);
  CHECK((flags & O_DIRECT) == 0);
  CHECK((::fcntl(rig.file->descriptor(), F_GETFL) & O_DIRECT) != 0);
  CHECK((::fcntl(rig.file->descriptor(), F_GETFD) & FD_CLOEXEC) != 0);
  // It is that very file, also where its name leads elsewhere by now.
  REQUIRE(::rename(rig.path.c_str(), (rig.path + ".old").c_str()) == 0);
  std::ofstream(rig.path) << "another";
  {
    const auto second = CufileHandle::open(rig.world.driver, rig.fd, rig.path);
    REQUIRE(second.is_ok());
    struct stat ours {};
    struct stat theirs {};
    CHECK(::fstat(second.value().descriptor(), &ours) == 0);
    CHECK(::fstat(rig.fd, &theirs) == 0);
    CHECK(ours.st_ino == theirs.st_ino);
    CHECK(rig.world.file.count("handles") == 2);
  }
  CHECK(rig.world.file.count("handles") == 1);
  rig.file.reset();
  const int stranger = ::open((rig.path + ".old").c_str(), O_RDWR | O_CLOEXEC);
  CHECK(::flock(stranger, LOCK_EX | LOCK_NB) != 0);
  ::close(stranger);
}

TEST_CASE("a moved handle is given back once, and outlives the descriptor that it was opened by") {
  Rig rig;
  const std::size_t before = open_descriptors();
  {
    auto opened = CufileHandle::open(rig.world.driver, rig.fd, rig.path);
    REQUIRE(opened.is_ok());
    const CufileHandle first = std::move(opened).value();
    ::close(rig.fd);
    rig.fd = -1;
    rig.set_device(bytes_from(4096, 3));
    CHECK(first.write(0, *rig.buffer, 0, 4096).is_ok());
    CHECK(rig.file->read(0, *rig.buffer, 8192, 4096).is_ok());
    CHECK(rig.device(4096, 8192) == bytes_from(4096, 3));
  }
  CHECK(rig.world.file.calls("cuFileHandleDeregister") == 1);
  CHECK(open_descriptors() == before - 1);
}

TEST_CASE("short transfers are carried on until all bytes are there") {
  const auto bytes = bytes_from(65536, 4);
  // One byte, less than a page, a page, more than pages, all but one byte: of the first, second and third call.
  for (const std::size_t length : {1U, 1000U, 4096U, 20000U, 65535U}) {
    for (const std::uint64_t nth : {1U, 2U, 3U}) {
      CAPTURE(length);
      CAPTURE(nth);
      const Rig rig;
      rig.set_device(bytes);
      for (std::uint64_t i = 1; i <= nth; ++i) rig.world.file.shorten(i, length);
      CHECK(rig.file->write(4096, *rig.buffer, 0, 65536).is_ok());
      CHECK(rig.disk(65536, 4096) == bytes);
      for (std::uint64_t i = 1; i <= nth; ++i) rig.world.file.shorten(i, length);
      CHECK(rig.file->read(4096, *rig.buffer, 131072, 65536).is_ok());
      CHECK(rig.device(65536, 131072) == bytes);
      CHECK(rig.device(4096, 131072 - 4096) == kvtier::sim::bytes_of(4096, 0));
      CHECK(rig.device(4096, 131072 + 65536) == kvtier::sim::bytes_of(4096, 0));
    }
  }
}

TEST_CASE("transfers that never move a page are an error and not a hang") {
  const Rig rig;
  for (std::uint64_t nth = 1; nth <= 100; ++nth) rig.world.file.shorten(nth, 100);
  const Status status = rig.file->write(0, *rig.buffer, 0, 8192);
  CHECK(status.code() == Code::kIo);
  CHECK(has(status.message(), "nothing more was taken"));
  CHECK(rig.world.file.calls("cuFileWrite") < 100);
}

TEST_CASE("a read beyond the end of the file is an error that says so") {
  const Rig rig;
  const Status status = rig.file->read(kBytes - 4096, *rig.buffer, 0, 8192);
  CHECK(status.code() == Code::kIo);
  CHECK(has(status.message(), "cuFileRead of 8192 bytes at 258048 of " + rig.path + ", of which 4096 were moved"));
  CHECK(has(status.message(), "the file ends there"));
}

TEST_CASE("an error of the system or of cuFile ends a transfer with its code, and what was moved by then") {
  const Rig rig;
  const auto attempt = [&](const char* function, int code) {
    // The first call moves a page, the second fails.
    rig.world.file.shorten(1, 4096);
    rig.world.file.fail_call(function, 2, code, 1);
    return std::string(function) == "cuFileRead" ? rig.file->read(0, *rig.buffer, 0, 65536)
                                                 : rig.file->write(0, *rig.buffer, 0, 65536);
  };
  CHECK(attempt("cuFileRead", EIO).code() == Code::kIo);
  CHECK(attempt("cuFileWrite", ENOSPC).code() == Code::kNoSpace);
  CHECK(attempt("cuFileWrite", EROFS).code() == Code::kNotWritable);
  CHECK(attempt("cuFileRead", 5008).code() == Code::kUnsupported);
  const Status status = attempt("cuFileWrite", 5044);
  CHECK(status.code() == Code::kIo);
  CHECK(has(status.message(), "cuFileWrite of 65536 bytes at 0 of " + rig.path + ", of which 4096 were moved: "));
  CHECK(has(status.message(), "CU_FILE_IO_ERROR (5044)"));
  // The next one works.
  CHECK(rig.file->write(0, *rig.buffer, 0, 65536).is_ok());
}

TEST_CASE("a signal that interrupts a transfer does not end it, unless it never ends") {
  const Rig rig;
  rig.set_device(bytes_from(8192, 5));
  rig.world.file.fail_call("cuFileWrite", 1, EINTR, 3);
  CHECK(rig.file->write(0, *rig.buffer, 0, 8192).is_ok());
  CHECK(rig.disk(8192) == bytes_from(8192, 5));
  rig.world.file.fail_call("cuFileWrite", 1, EINTR, 0);
  CHECK(rig.file->write(0, *rig.buffer, 0, 8192).code() == Code::kIo);
}

TEST_CASE("what is not aligned, or goes beyond the buffer, is refused before anything moves") {
  const Rig rig;
  const auto refused = [&](std::uint64_t file_offset, std::uint64_t buffer_offset, std::uint64_t size_bytes) {
    return rig.file->read(file_offset, *rig.buffer, buffer_offset, size_bytes).code() == Code::kInvalidValue &&
           rig.file->write(file_offset, *rig.buffer, buffer_offset, size_bytes).code() == Code::kInvalidValue;
  };
  CHECK(refused(100, 0, 4096));
  CHECK(refused(0, 512, 4096));
  CHECK(refused(0, 0, 4000));
  CHECK(refused(0, kBytes, 4096));
  CHECK(refused(0, kBytes - 4096, 8192));
  CHECK(refused(0, 8192, ~std::uint64_t{4095}));
  CHECK(rig.world.file.calls("cuFileRead") + rig.world.file.calls("cuFileWrite") == 0);
}

TEST_CASE("a file that cuFile or the system refuses is told why, and nothing stays open") {
  const CufileWorld world;
  const Folder folder;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int directory = ::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int data = ::open((folder.path() + "/data").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const std::size_t before = open_descriptors();
  const auto opened = [&](int fd) { return CufileHandle::open(world.driver, fd, "the file").status(); };
  CHECK_FALSE(opened(ends[0]).is_ok());
  CHECK(opened(directory).code() == Code::kIo);
  CHECK(has(opened(directory).message(), "the file"));
  CHECK(opened(-1).code() == Code::kIo);
  world.file.fail_call("cuFileHandleRegister", 1, 5008, 1);
  const Status status = opened(data);
  CHECK(status.code() == Code::kUnsupported);
  CHECK(has(status.message(), "cuFileHandleRegister of the file: CU_FILE_IO_NOT_SUPPORTED (5008)"));
  CHECK(world.file.calls("cuFileHandleDeregister") == 0);
  CHECK(opened(data).is_ok());
  const auto& absent = absent_cufile();
  const Status not_ready = CufileHandle::open(absent, data, "the file").status();
  CHECK(not_ready.code() == Code::kUnsupported);
  CHECK(not_ready.message() == absent.reason());
  CHECK(open_descriptors() == before);
  for (const int fd : {ends[0], ends[1], directory, data}) ::close(fd);
}

TEST_CASE("a file system without O_DIRECT is told apart") {
  const CufileWorld world;
  // Some kernels' files in memory take O_DIRECT; those of /proc never do.
  const int fd = ::open("/proc/self/comm", O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  const Status status = CufileHandle::open(world.driver, fd, "/proc/self/comm").status();
  ::close(fd);
  CHECK(status.code() == Code::kUnsupported);
  CHECK(has(status.message(), "the file system has no O_DIRECT"));
}

TEST_CASE("any thread may transfer: it has the buffer's context for the while, and its own again afterwards") {
  const Rig rig;
  rig.set_device(bytes_from(65536, 6));
  const auto other = rig.world.context_of(1);
  std::vector<Status> outcomes(3);
  std::vector<kvtier::cuda::Context> left(3, nullptr);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto& cuda = rig.world.cuda;
      if (i == 1) (void)cuda.ctx_set_current(other->handle());
      outcomes[i] = rig.file->write(i * 65536, *rig.buffer, 0, 65536);
      (void)cuda.ctx_get_current(&left[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    CAPTURE(outcomes[i].message());
    CHECK(outcomes[i].is_ok());
    CHECK((left[i] == (i == 1 ? other->handle() : nullptr)));
    CHECK(rig.disk(65536, static_cast<off_t>(i) * 65536) == bytes_from(65536, 6));
  }
}

TEST_CASE("a device that is lost fails transfers and no destructor") {
  const Rig rig;
  rig.world.sim.lose_device(0, static_cast<int>(Error::kIllegalAddress));
  CHECK_FALSE(rig.file->write(0, *rig.buffer, 0, 4096).is_ok());
}
#endif
