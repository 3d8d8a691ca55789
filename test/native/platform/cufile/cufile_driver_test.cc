#if defined(__linux__)
#include "platform/cufile/cufile_driver.h"

#include <array>
#include <set>
#include <string>

#include "native/platform/cufile/cufile_world.h"
#include "platform/cufile/cufile_machine.h"

using kvtier::Code;
using kvtier::CufileDriver;
using kvtier::CufileState;
using namespace kvtier::cufile_world;
using kvtier::sim::has;
using kvtier::sim::World;

TEST_CASE("a working cuFile is ready, with every required function and its version, and was opened once") {
  const World world;
  const CopiedCufile copy;
  const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
  CAPTURE(driver.reason());
  REQUIRE(driver.is_ready());
  CHECK(driver.state() == CufileState::kReady);
  CHECK(driver.reason().empty());
  CHECK(driver.version() == 1150);
  CHECK(driver.library() == copy.path());
  CHECK(&driver.cuda() == &kvtier::CudaDriver::get(simulated_cuda()));
#define CHECK_MEMBER(member, symbol, ...) CHECK((driver.functions().member != nullptr));
  KVTIER_CUFILE_REQUIRED(CHECK_MEMBER)
  KVTIER_CUFILE_OPTIONAL(CHECK_MEMBER)
#undef CHECK_MEMBER
  CHECK(&CufileDriver::get(simulated_cuda(), copy.path()) == &driver);
  CHECK(copy->calls("cuFileDriverOpen") == 1);
  CHECK(copy->calls("cuFileDriverClose") + copy->calls("cuFileDriverClose_v2") == 0);
  CHECK(driver.check_device(driver.cuda().devices()[1]).is_ok());
}

TEST_CASE("cuFile is not looked for without a GPU") {
  const CufileDriver& driver = CufileDriver::get("libkvtier-no-such-driver.so.1", "libkvtier-no-such-cufile.so.0");
  CHECK(driver.state() == CufileState::kNoGpu);
  CHECK(has(driver.reason(), "needs a GPU"));
  CHECK(driver.version() == 0);
}

TEST_CASE("NVIDIA's cuFile is never used with a CUDA driver that was named") {
  const World world;
  const CufileDriver& driver = CufileDriver::get(simulated_cuda(), "");
  CHECK(driver.state() == CufileState::kOff);
  CHECK(has(driver.reason(), "KVTIER_CUDA_LIBRARY"));
  CHECK(has(driver.reason(), "KVTIER_CUFILE_LIBRARY"));
  CHECK((driver.functions().driver_open == nullptr));
}

TEST_CASE("where no GPU can be reached by other devices cuFile is not opened") {
  const World world("rdma=0");
  const CopiedCufile copy;
  const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
  CHECK(driver.state() == CufileState::kDeviceUnable);
  CHECK(has(driver.reason(), "kvtier simulated GPU 0 (device 0)"));
  CHECK(has(driver.reason(), "GPUDirect RDMA"));
  CHECK(copy->calls(nullptr) == 0);
  CHECK(driver.check_device(driver.cuda().devices()[0]).code() == Code::kUnsupported);
}

TEST_CASE("a single GPU that cannot be reached, or does not say, is told from those that can") {
  const World world;
  const CopiedCufile copy;
  const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
  REQUIRE(driver.is_ready());
  world.sim.fail_call("cuDeviceGetAttribute", 2, 1, 1);
  CHECK(driver.check_device(driver.cuda().devices()[0]).is_ok());
  const kvtier::Status status = driver.check_device(driver.cuda().devices()[1]);
  CHECK(status.code() == Code::kUnsupported);
  CHECK(has(status.message(), "device 1"));
}

TEST_CASE("a library that is missing, cannot be loaded, or is another one has its state and says what to do") {
  const World world;
  const CufileDriver& absent = CufileDriver::get(simulated_cuda(), "libkvtier-no-such-cufile.so.0");
  CHECK(absent.state() == CufileState::kAbsent);
  CHECK(has(absent.reason(), "libkvtier-no-such-cufile.so.0 was not found"));
  const Folder folder;
  const std::string path = folder.path() + "/libcufile.so.0";
  std::ofstream(path) << "not a library";
  const CufileDriver& broken = CufileDriver::get(simulated_cuda(), path);
  CHECK(broken.state() == CufileState::kUnloadable);
  CHECK(has(broken.reason(), "reinstall"));
  const CufileDriver& other = CufileDriver::get(simulated_cuda(), "libm.so.6");
  CHECK(other.state() == CufileState::kNotCufile);
  CHECK(has(other.reason(), "libm.so.6 has no function cuFileDriverOpen"));
}

TEST_CASE("a library that lacks a required function is too old, is told which, and is never opened") {
  const World world;
  for (const char* const symbol : {"cuFileWrite", "cuFileDriverGetProperties", "cuFileBufDeregister"}) {
    CAPTURE(symbol);
    const CopiedCufile copy({symbol});
    const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
    CHECK(driver.state() == CufileState::kTooOld);
    CHECK(has(driver.reason(), std::string("(version 1.15) is too old: it lacks ") + symbol));
    CHECK(copy->calls("cuFileDriverOpen") == 0);
  }
}

TEST_CASE("an optional function that a library lacks is null, and the library is ready") {
  const World world;
  const CopiedCufile copy({"cuFileGetVersion", "cuFileGetParameterBool", "cuFileSetParameterBool"});
  const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
  CAPTURE(driver.reason());
  CHECK(driver.is_ready());
  CHECK(driver.version() == 0);
  CHECK((driver.functions().get_version == nullptr));
  CHECK((driver.functions().set_parameter_bool == nullptr));
  const CopiedCufile unsure;
  unsure->fail_call("cuFileGetVersion", 1, 5005, 1);
  CHECK(CufileDriver::get(simulated_cuda(), unsure.path()).is_ready());
  CHECK(CufileDriver::get(simulated_cuda(), unsure.path()).version() == 0);
}

TEST_CASE("each way in which cuFile refuses to start has its state and a sentence that says what to do") {
  struct Case {
    int code;
    CufileState state;
    const char* words;
  };
  const std::array<Case, 11> cases = {{{5001, CufileState::kNoKernelModule, "modprobe nvidia-fs"},
                                       {5010, CufileState::kNoKernelModule, "modprobe nvidia-fs"},
                                       {5033, CufileState::kNoKernelModule, "modprobe nvidia-fs"},
                                       {5004, CufileState::kMismatch, "one release"},
                                       {5005, CufileState::kMismatch, "one release"},
                                       {5025, CufileState::kNotPermitted, "/dev/nvidia-fs*"},
                                       {5007, CufileState::kUnsupported, "list"},
                                       {5009, CufileState::kUnsupported, "list"},
                                       {5029, CufileState::kUnsupported, "list"},
                                       {5011, CufileState::kBroken, "dmesg"},
                                       {5999, CufileState::kBroken, "dmesg"}}};
  const World world;
  std::set<std::string> reasons;
  for (const Case& expected : cases) {
    CAPTURE(expected.code);
    const CopiedCufile copy;
    copy->fail_call("cuFileDriverOpen", 1, expected.code, 1);
    const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
    CHECK(driver.state() == expected.state);
    CHECK(has(driver.reason(), expected.words));
    CHECK(has(driver.reason(), std::to_string(expected.code)));
    CHECK(reasons.insert(driver.reason()).second);
    // It stays as it was found.
    CHECK(CufileDriver::get(simulated_cuda(), copy.path()).state() == expected.state);
    CHECK(copy->calls("cuFileDriverOpen") == 1);
  }
}

TEST_CASE("without nvidia-fs cuFile is off, also where its configuration would have it move bytes by itself") {
  const World world;
  for (const char* const settings : {"driver=0", "driver=0 compat=1"}) {
    CAPTURE(settings);
    const CopiedCufile copy;
    copy->reset(settings);
    const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
    CHECK(driver.state() == CufileState::kNoKernelModule);
    CHECK(has(driver.reason(), "CU_FILE_DRIVER_NOT_INITIALIZED (5001)"));
  }
}

TEST_CASE("the compatibility mode is switched off, and where it cannot be cuFile is not used") {
  const World world;
  const CopiedCufile allowed;
  allowed->reset("compat=1");
  CHECK(CufileDriver::get(simulated_cuda(), allowed.path()).is_ready());

  const CopiedCufile forced;
  forced->reset("forced=1");
  const CopiedCufile stubborn;
  stubborn->reset("compat=1 fail=cuFileSetParameterBool:1:5022:*");
  // Libraries before 1.14 have neither parameter; their flag says it.
  const CopiedCufile old({"cuFileGetParameterBool", "cuFileSetParameterBool"});
  old->reset("compat=1");
  const CopiedCufile mute;
  mute->reset("forced=1 fail=cuFileGetParameterBool:1:5022:*");
  for (const std::string& path : {forced.path(), stubborn.path(), old.path(), mute.path()}) {
    const CufileDriver& driver = CufileDriver::get(simulated_cuda(), path);
    CHECK(driver.state() == CufileState::kCompatMode);
    CHECK(has(driver.reason(), "allow_compat_mode"));
    CHECK(has(driver.reason(), "CUFILE_FORCE_COMPAT_MODE"));
  }
}

TEST_CASE("a cuFile that does not tell its properties is not used") {
  const World world;
  const CopiedCufile copy;
  copy->fail_call("cuFileDriverGetProperties", 1, 5030, 1);
  const CufileDriver& driver = CufileDriver::get(simulated_cuda(), copy.path());
  CHECK(driver.state() == CufileState::kBroken);
  CHECK(has(driver.reason(), "cuFileDriverGetProperties"));
  CHECK(has(driver.reason(), "5030"));
}

TEST_CASE("what cuFile needs of the system is looked for before it is opened") {
  const Folder folder;
  const std::string modules = folder.path() + "/modules";
  const std::string udev = folder.path() + "/udev";
  const kvtier::CufileNeeds no_list = kvtier::check_cufile_needs(folder.path(), modules);
  CHECK(no_list.state == CufileState::kNoKernelModule);
  CHECK(has(no_list.reason, modules));
  std::ofstream(modules) << "nvidia_fs 1 0\n";
  const kvtier::CufileNeeds no_udev = kvtier::check_cufile_needs(udev, modules);
  CHECK(no_udev.state == CufileState::kNoUdev);
  CHECK(has(no_udev.reason, udev));
  std::filesystem::create_directory(udev);
  CHECK(kvtier::check_cufile_needs(udev, modules).state == CufileState::kReady);
}

TEST_CASE("the environment can name cuFile's file, and its log is silenced where nobody named one") {
  ::unsetenv("CUFILE_LOGFILE_PATH");
  ::setenv("KVTIER_CUFILE_LIBRARY", "/opt/gds/libcufile.so.0", 1);
  CHECK(kvtier::cufile_library_from_environment() == "/opt/gds/libcufile.so.0");
  CHECK(std::string(::getenv("CUFILE_LOGFILE_PATH")) == "/dev/null");
  ::unsetenv("KVTIER_CUFILE_LIBRARY");
  ::setenv("CUFILE_LOGFILE_PATH", "/var/log/cufile.log", 1);
  CHECK(kvtier::cufile_library_from_environment().empty());
  CHECK(std::string(::getenv("CUFILE_LOGFILE_PATH")) == "/var/log/cufile.log");
  ::unsetenv("CUFILE_LOGFILE_PATH");
}

TEST_CASE("the states have names of their own") {
  std::set<std::string> names;
#define CHECK_NAME(name, text)                                    \
  CHECK(std::string(kvtier::name_of(CufileState::name)) == text); \
  CHECK(names.insert(text).second);
  KVTIER_CUFILE_STATES(CHECK_NAME)
#undef CHECK_NAME
}
#endif
