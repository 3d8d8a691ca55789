// The simulated cuFile: transfers between files and the simulated driver's device memory.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "native/support/sim-cuda/sim_world.h"
#include "platform/cufile/cufile_types.h"
#include "support/sim-cuda/cufile/sim_cufile_control.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::DevicePtr;
namespace cufile = kvtier::cufile;

constexpr std::size_t kBytes = 65536;
constexpr int kAllowCompatMode = static_cast<int>(cufile::BoolParameter::kAllowCompatMode);

int number(cufile::Outcome outcome) {
  return static_cast<int>(outcome.error);
}

// The library's calls and controls.
struct CuFile {
  CuFile() : library("libkvtier_sim_cufile.so") {
    library.find("cuFileGetVersion", get_version);
    library.find("cuFileDriverOpen", driver_open);
    library.find("cuFileDriverClose_v2", driver_close);
    library.find("cuFileUseCount", use_count);
    library.find("cuFileDriverGetProperties", get_properties);
    library.find("cuFileSetParameterSizeT", set_parameter);
    library.find("cuFileSetParameterBool", set_switch);
    library.find("cuFileGetParameterBool", get_switch);
    library.find("cuFileHandleRegister", handle_register);
    library.find("cuFileHandleDeregister", handle_deregister);
    library.find("cuFileBufRegister", buffer_register);
    library.find("cuFileBufDeregister", buffer_deregister);
    library.find("cuFileRead", read);
    library.find("cuFileWrite", write);
    library.find("kvtier_sim_cufile_reset", reset);
    library.find("kvtier_sim_cufile_fail_call", fail_call);
    library.find("kvtier_sim_cufile_shorten", shorten);
    library.find("kvtier_sim_cufile_count", count);
    library.find("kvtier_sim_cufile_calls", calls);
    reset(nullptr);
  }

  Library library;
  cufile::Outcome (*get_version)(int*) = nullptr;
  cufile::Outcome (*driver_open)() = nullptr;
  cufile::Outcome (*driver_close)() = nullptr;
  long (*use_count)() = nullptr;
  cufile::Outcome (*get_properties)(cufile::Properties*) = nullptr;
  cufile::Outcome (*set_parameter)(int, std::size_t) = nullptr;
  cufile::Outcome (*set_switch)(int, bool) = nullptr;
  cufile::Outcome (*get_switch)(int, bool*) = nullptr;
  cufile::Outcome (*handle_register)(cufile::Handle*, cufile::Description*) = nullptr;
  void (*handle_deregister)(cufile::Handle) = nullptr;
  cufile::Outcome (*buffer_register)(const void*, std::size_t, int) = nullptr;
  cufile::Outcome (*buffer_deregister)(const void*) = nullptr;
  ssize_t (*read)(cufile::Handle, void*, std::size_t, off_t, off_t) = nullptr;
  ssize_t (*write)(cufile::Handle, const void*, std::size_t, off_t, off_t) = nullptr;
  decltype(&kvtier_sim_cufile_reset) reset = nullptr;
  decltype(&kvtier_sim_cufile_fail_call) fail_call = nullptr;
  decltype(&kvtier_sim_cufile_shorten) shorten = nullptr;
  decltype(&kvtier_sim_cufile_count) count = nullptr;
  decltype(&kvtier_sim_cufile_calls) calls = nullptr;
};

// A file of its own, removed at the end; with O_DIRECT where the file system has it.
class TestFile {
 public:
  explicit TestFile(int flags = 0) {
    char path[] = "/tmp/kvtier-sim-cufile-XXXXXX";
    ::close(::mkstemp(path));
    fd_ = ::open(path, O_RDWR | O_CLOEXEC | flags);
    if (fd_ < 0 && flags == O_DIRECT) fd_ = ::open(path, O_RDWR | O_CLOEXEC);
    ::unlink(path);
    REQUIRE(fd_ >= 0);
  }
  ~TestFile() { ::close(fd_); }
  TestFile(const TestFile&) = delete;
  TestFile& operator=(const TestFile&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] cufile::Description description() const {
    cufile::Description made;
    made.file.fd = fd_;
    return made;
  }

 private:
  int fd_ = -1;
};

void* pointer(DevicePtr address) {
  return reinterpret_cast<void*>(address);
}

}  // namespace

TEST_CASE("sim-cufile: registered device memory goes to a file and comes back") {
  const World world;
  const CuFile file;
  const TestFile data(O_DIRECT);
  const DevicePtr memory = world.allocate(kBytes, 3);
  cufile::Handle handle = nullptr;
  cufile::Description description = data.description();
  CHECK(number(file.driver_open()) == 0);
  REQUIRE(number(file.handle_register(&handle, &description)) == 0);
  REQUIRE(number(file.buffer_register(pointer(memory), kBytes, 0)) == 0);
  CHECK(file.write(handle, pointer(memory), 8192, 4096, 16384) == 8192);
  world.fill(memory, kBytes, 0);
  CHECK(file.read(handle, pointer(memory), 8192, 4096, 0) == 8192);
  CHECK(world.read(memory, 8192) == bytes_of(8192, 3));
  CHECK(world.read(memory + 8192, 8192) == bytes_of(8192, 0));
  // Past the end of the file there is less to read.
  CHECK(file.read(handle, pointer(memory), 8192, 8192, 0) == 4096);
  CHECK(file.count("unregistered") + file.count("unaligned") + file.count("sub_pointer") == 0);
  CHECK(number(file.buffer_deregister(pointer(memory))) == 0);
  file.handle_deregister(handle);
  CHECK(number(file.driver_close()) == 0);
  CHECK(file.use_count() == 0);
}

TEST_CASE("sim-cufile: the slow ways work and are counted") {
  const World world;
  const CuFile file;
  const TestFile data(O_DIRECT);
  const DevicePtr memory = world.allocate(kBytes, 3);
  cufile::Handle handle = nullptr;
  cufile::Description description = data.description();
  REQUIRE(number(file.handle_register(&handle, &description)) == 0);
  CHECK(file.write(handle, pointer(memory), 4096, 0, 0) == 4096);
  CHECK(file.count("unregistered") == 1);
  REQUIRE(number(file.buffer_register(pointer(memory), kBytes, 0)) == 0);
  CHECK(file.write(handle, pointer(memory), 100, 7, 0) == 100);
  CHECK(file.count("unaligned") == 1);
  CHECK(file.write(handle, pointer(memory + 4096), 4096, 0, 0) == 4096);
  CHECK(file.count("sub_pointer") == 1);
  CHECK(file.count("unregistered") == 1);
  CHECK(number(file.buffer_deregister(pointer(memory))) == 0);
  file.handle_deregister(handle);
}

TEST_CASE("sim-cufile: a transfer waits for no stream") {
  const World world("hold=1");
  const CuFile file;
  const TestFile data;
  const DevicePtr memory = world.allocate(4096, 1);
  const auto stream = world.stream();
  cufile::Handle handle = nullptr;
  cufile::Description description = data.description();
  REQUIRE(number(file.handle_register(&handle, &description)) == 0);
  REQUIRE(world.cuda.memset_d8_async(memory, 2, 4096, stream) == Error::kSuccess);
  CHECK(file.write(handle, pointer(memory), 4096, 0, 0) == 4096);
  CHECK(file.count("indirect") == 1);
  unsigned char byte = 0;
  CHECK(::pread(data.fd(), &byte, 1, 100) == 1);
  CHECK(byte == 1);
  file.handle_deregister(handle);
}

TEST_CASE("sim-cufile: files are refused for their flags and their kind") {
  const World world;
  const CuFile file;
  cufile::Handle handle = nullptr;
  const auto registered = [&](const TestFile& data) {
    cufile::Description description = data.description();
    return number(file.handle_register(&handle, &description));
  };
  CHECK(registered(TestFile(O_NOFOLLOW)) == 5019);
  CHECK(registered(TestFile(O_APPEND)) == 5019);
  CHECK(registered(TestFile(O_NONBLOCK)) == 5019);
  CHECK(file.count("refused_files") == 3);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  cufile::Description pipe_description;
  pipe_description.file.fd = ends[0];
  CHECK(number(file.handle_register(&handle, &pipe_description)) == 5018);
  ::close(ends[0]);
  ::close(ends[1]);
  const TestFile data;
  CHECK(registered(data) == 0);
  CHECK(registered(data) == 5028);
  file.handle_deregister(handle);
  CHECK(file.read(handle, pointer(world.allocate(4096)), 4096, 0, 0) == -5027);
  CHECK(has(world.violation(), "not registered"));
}

TEST_CASE("sim-cufile: device memory must be known, whole, and given back before it is freed") {
  const World world;
  const CuFile file;
  const TestFile data;
  const DevicePtr memory = world.allocate(kBytes, 3);
  cufile::Handle handle = nullptr;
  cufile::Description description = data.description();
  REQUIRE(number(file.handle_register(&handle, &description)) == 0);
  CHECK(number(file.buffer_register(pointer(memory), kBytes + 1, 0)) == 5012);
  std::vector<unsigned char> host(4096);
  CHECK(file.read(handle, host.data(), 4096, 0, 0) == -5012);
  CHECK(number(file.buffer_register(pointer(memory), 8192, 0)) == 0);
  CHECK(number(file.buffer_register(pointer(memory), 8192, 0)) == 5023);
  CHECK(file.write(handle, pointer(memory), 8192, 0, 4096) == -5014);
  CHECK(world.cuda.mem_free(memory) == Error::kSuccess);
  CHECK(has(world.violation(), "held by cuFile"));
  CHECK(number(file.buffer_deregister(pointer(memory))) == 0);
  CHECK(number(file.buffer_deregister(pointer(memory))) == 5024);
  file.handle_deregister(handle);
}

TEST_CASE("sim-cufile: transfers fail, and end short, when a test says so") {
  const World world;
  const CuFile file;
  const TestFile data;
  const DevicePtr memory = world.allocate(kBytes, 3);
  cufile::Handle handle = nullptr;
  cufile::Description description = data.description();
  REQUIRE(number(file.handle_register(&handle, &description)) == 0);
  file.fail_call("cuFileWrite", 2, 5044, 1);
  file.fail_call("cuFileRead", 1, EIO, 1);
  file.shorten(2, 1000);
  CHECK(file.write(handle, pointer(memory), 4096, 0, 0) == 4096);
  CHECK(file.write(handle, pointer(memory), 4096, 0, 0) == -5044);
  CHECK(file.read(handle, pointer(memory), 4096, 0, 0) == -1);
  CHECK(errno == EIO);
  CHECK(file.read(handle, pointer(memory), 4096, 0, 0) == 1000);
  CHECK(file.read(handle, pointer(memory), 4096, 0, 0) == 4096);
  CHECK(file.calls("cuFileRead") == 3);
  REQUIRE(world.cuda.ctx_set_current(nullptr) == Error::kSuccess);
  CHECK(file.read(handle, pointer(memory), 4096, 0, 0) == -5047);
  file.handle_deregister(handle);
}

TEST_CASE("sim-cufile: without its kernel driver nothing opens, and parameters come before opening") {
  const World world;
  const CuFile file;
  int version = 0;
  CHECK(number(file.get_version(&version)) == 0);
  CHECK(version == 1150);
  file.reset("driver=0 version=1140");
  CHECK(number(file.get_version(&version)) == 0);
  CHECK(version == 1140);
  CHECK(number(file.driver_open()) == 5001);
  CHECK(number(file.buffer_register(pointer(world.allocate(4096)), 4096, 0)) == 5033);
  CHECK(number(file.driver_close()) == 5001);
  file.reset("fail=cuFileDriverOpen:1:5011");
  cufile::Properties properties;
  CHECK(number(file.get_properties(&properties)) == 5001);
  CHECK(number(file.set_parameter(5, 1024)) == 0);
  CHECK(number(file.driver_open()) == 5011);
  CHECK(number(file.driver_open()) == 0);
  CHECK(number(file.get_properties(&properties)) == 0);
  CHECK(properties.direct_io_kb_max == 16384);
  CHECK(number(file.set_parameter(5, 1024)) == 5026);
  CHECK(has(world.violation(), "too late"));
  CHECK(number(file.driver_close()) == 0);
}

TEST_CASE("sim-cufile: its compatibility mode stands in for the kernel driver, unless a parameter forbids it") {
  const World world;
  const CuFile file;
  cufile::Properties properties;
  bool allowed = false;
  file.reset("driver=0 compat=1");
  CHECK(number(file.driver_open()) == 0);
  CHECK(number(file.get_properties(&properties)) == 0);
  CHECK(properties.nvfs_major == 0);
  CHECK(properties.control_flags == 2);
  file.reset("driver=0 compat=1");
  CHECK(number(file.set_switch(kAllowCompatMode, false)) == 0);
  CHECK(number(file.driver_open()) == 5001);
  // What forces it counts more than a parameter.
  file.reset("forced=1");
  CHECK(number(file.set_switch(kAllowCompatMode, false)) == 0);
  CHECK(number(file.get_switch(kAllowCompatMode, &allowed)) == 0);
  CHECK(allowed);
  CHECK(number(file.driver_open()) == 0);
  const TestFile data(O_DIRECT);
  cufile::Handle handle = nullptr;
  cufile::Description description = data.description();
  REQUIRE(number(file.handle_register(&handle, &description)) == 0);
  CHECK(file.write(handle, pointer(world.allocate(4096, 1)), 4096, 0, 0) == 4096);
  CHECK(file.count("compat") == 1);
  file.handle_deregister(handle);
}
