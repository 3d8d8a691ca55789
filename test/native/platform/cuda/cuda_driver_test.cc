#if defined(__linux__)
#include "platform/cuda/cuda_driver.h"

#include <doctest/doctest.h>
#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fake_library.h"

using kvtier::CudaDriver;
using kvtier::CudaState;
using kvtier::cuda::Error;
using kvtier::fake::contains;
using kvtier::fake::Library;
using kvtier::fake::Way;

namespace {

bool was_called(Library& fake, const char* symbol) {
  return std::count(fake->calls.begin(), fake->calls.end(), symbol) > 0;
}

}  // namespace

TEST_CASE("a working driver is ready, with every required function and its devices by ordinal") {
  Library fake;
  const CudaDriver& driver = fake.driver();
  CAPTURE(driver.reason());
  REQUIRE(driver.is_ready());
  CHECK(driver.state() == CudaState::kReady);
  CHECK(driver.reason().empty());
  CHECK(driver.version() == 13000);
  CHECK(driver.library() == fake.path());
#define CHECK_MEMBER(member, base, symbol, version, ...) CHECK((driver.functions().member != nullptr));
  KVTIER_CUDA_REQUIRED(CHECK_MEMBER)
#undef CHECK_MEMBER
  REQUIRE(driver.devices().size() == 2);
  const kvtier::CudaDevice& device = driver.devices()[1];
  CHECK(device.ordinal == 1);
  CHECK(device.handle == 101);
  CHECK(device.name == "Fake GPU 101");
  CHECK(device.uuid == "65ababab-abab-abab-abab-abababababab");
  CHECK(device.memory_bytes == std::uint64_t{101} << 30U);
  CHECK(device.compute_major == 9);
  CHECK(device.compute_minor == 0);
  CHECK(device.pci_address == "0001:65:01.0");
}

TEST_CASE("functions are found by either form of cuGetProcAddress, and by name where a driver has neither") {
  for (const Way way : {Way::kV2, Way::kV1, Way::kNames}) {
    CAPTURE(static_cast<int>(way));
    Library fake(way);
    const CudaDriver& driver = fake.driver();
    CAPTURE(driver.reason());
    REQUIRE(driver.is_ready());
    CHECK(driver.devices().size() == 2);
    CHECK(fake->asked.empty() == (way == Way::kNames));
    CHECK((driver.functions().memcpy_batch_async_13000 != nullptr));
  }
}

TEST_CASE("each form of the batch copy is there from its own version on, and is that form") {
  for (const Way way : {Way::kV2, Way::kV1, Way::kNames}) {
    for (const int version : {12040, 12080, 12090, 13000, 13010}) {
      CAPTURE(static_cast<int>(way));
      CAPTURE(version);
      Library fake(way);
      fake->version = version;
      // As a driver might that gives the newest form it has, whatever was asked for.
      fake->lenient = true;
      const kvtier::cuda::Functions& functions = fake.driver().functions();
      CHECK((functions.memcpy_batch_async_12080 != nullptr) == (version >= 12080));
      CHECK((functions.memcpy_batch_async_13000 != nullptr) == (version >= 13000));
      if (functions.memcpy_batch_async_12080 != nullptr) {
        std::size_t failed = 0;
        functions.memcpy_batch_async_12080(nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0, &failed, nullptr);
        CHECK(fake->calls.back() == "cuMemcpyBatchAsync");
      }
      if (functions.memcpy_batch_async_13000 != nullptr) {
        functions.memcpy_batch_async_13000(nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0, nullptr);
        CHECK(fake->calls.back() == "cuMemcpyBatchAsync_v2");
      }
    }
  }
}

TEST_CASE("a driver is asked for no function in a form that is newer than itself") {
  Library fake;
  fake->version = 12040;
  CHECK(fake.driver().is_ready());
  CHECK_FALSE(fake->asked.empty());
  for (const auto& [base, version] : fake->asked) {
    CAPTURE(base);
    CHECK(version <= 12040);
  }
}

TEST_CASE("a driver that lacks a required function is too old, is told which and its version, and is never started") {
  Library fake;
  fake->missing = "cuStreamWaitEvent";
  const CudaDriver& driver = fake.driver();
  CHECK(driver.state() == CudaState::kTooOld);
  CHECK(contains(driver.reason(), "cuStreamWaitEvent"));
  CHECK(contains(driver.reason(), "13.0"));
  CHECK(driver.version() == 13000);
  CHECK_FALSE(was_called(fake, "cuInit"));

  Library old(Way::kNames);
  old->version = 11020;
  CHECK(old.driver().state() == CudaState::kTooOld);
  CHECK(contains(old.driver().reason(), "it offers CUDA 11.2 and lacks the function cuDeviceGetUuid of CUDA 11.4"));

  Library oldest;
  oldest->version = 11040;
  CHECK(oldest.driver().is_ready());
}

TEST_CASE("an optional function that a driver lacks is null, and the driver is ready") {
  Library fake;
  fake->missing = "cuMemcpyBatchAsync";
  CHECK(fake.driver().is_ready());
  CHECK((fake.driver().functions().memcpy_batch_async_12080 == nullptr));
  CHECK((fake.driver().functions().memcpy_batch_async_13000 == nullptr));
}

TEST_CASE("each way in which a driver refuses to start has its state and a sentence of its own that says what to do") {
  struct Case {
    int code;
    CudaState state;
    const char* words;
  };
  const std::array<Case, 13> cases = {{{34, CudaState::kStub, "stub"},
                                       {36, CudaState::kTooOld, "too old"},
                                       {46, CudaState::kBusy, "exclusive"},
                                       {100, CudaState::kNoDevice, "no device"},
                                       {101, CudaState::kNoDevice, "CUDA_VISIBLE_DEVICES"},
                                       {102, CudaState::kNotReady, "licence"},
                                       {802, CudaState::kNotReady, "nvidia-fabricmanager"},
                                       {803, CudaState::kMismatch, "differ in version"},
                                       {804, CudaState::kIncompatible, "compat"},
                                       {805, CudaState::kNotReady, "MPS"},
                                       {999, CudaState::kBroken, "nvidia_uvm"},
                                       {3, CudaState::kBroken, "CUresult"},
                                       {123456, CudaState::kBroken, "CUresult"}}};
  std::set<std::string> reasons;
  for (const Case& expected : cases) {
    CAPTURE(expected.code);
    Library fake;
    fake->failing = "cuInit";
    fake->failure = static_cast<Error>(expected.code);
    const CudaDriver& driver = fake.driver();
    CHECK(driver.state() == expected.state);
    CHECK_FALSE(driver.is_ready());
    CHECK(driver.devices().empty());
    CHECK(contains(driver.reason(), "cuInit returned " + std::to_string(expected.code)));
    CHECK(contains(driver.reason(), expected.words));
    CHECK(reasons.insert(driver.reason()).second);
  }
}

TEST_CASE("a driver without devices has none, and one with nonsense or failing calls is broken") {
  Library none;
  none->device_count = 0;
  CHECK(none.driver().state() == CudaState::kNoDevice);
  CHECK(contains(none.driver().reason(), "no device"));

  Library many;
  many->device_count = 1 << 30;
  CHECK(many.driver().state() == CudaState::kBroken);
  CHECK(contains(many.driver().reason(), "does not work"));

  for (const char* const function : {"cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName",
                                     "cuDeviceTotalMem", "cuDeviceGetAttribute"}) {
    CAPTURE(function);
    Library fake;
    fake->failing = function;
    fake->failure = Error::kInvalidDevice;
    CHECK(fake.driver().state() == CudaState::kBroken);
    CHECK(fake.driver().devices().empty());
    CHECK(contains(fake.driver().reason(), std::string(function) + " of "));
    CHECK(contains(fake.driver().reason(), "101"));
  }
}

TEST_CASE("a device without UUID or PCI address is used all the same") {
  Library no_uuid;
  no_uuid->failing = "cuDeviceGetUuid";
  REQUIRE(no_uuid.driver().devices().size() == 2);
  CHECK(no_uuid.driver().devices()[0].uuid.empty());
  CHECK_FALSE(no_uuid.driver().devices()[0].pci_address.empty());

  Library no_address;
  no_address->failing = "PCI";
  REQUIRE(no_address.driver().devices().size() == 2);
  CHECK(no_address.driver().devices()[0].pci_address.empty());
}

TEST_CASE("a driver that is not installed, one that cannot be loaded and a library that is none are told apart") {
  const CudaDriver& absent = CudaDriver::get("libkvtier-no-such-driver.so.1");
  CHECK(absent.state() == CudaState::kAbsent);
  CHECK(contains(absent.reason(), "libkvtier-no-such-driver.so.1 was not found"));
  CHECK(contains(absent.reason(), "install NVIDIA's driver"));
  CHECK(absent.version() == 0);

  const CudaDriver& other = CudaDriver::get("libm.so.6");
  CHECK(other.state() == CudaState::kNotADriver);
  CHECK(contains(other.reason(), "no CUDA driver"));

  std::string path = "/tmp/kvtier-driver-XXXXXX";
  const int fd = ::mkstemp(path.data());
  REQUIRE(fd >= 0);
  REQUIRE(::write(fd, "not a library", 13) == 13);
  ::close(fd);
  const CudaDriver& broken = CudaDriver::get(path);
  ::unlink(path.c_str());
  CHECK(broken.state() == CudaState::kUnloadable);
  CHECK(contains(broken.reason(), "cannot be loaded"));
}

TEST_CASE("the states have names of their own") {
  std::set<std::string> names;
#define CHECK_STATE(name, text) CHECK(names.insert(kvtier::name_of(CudaState::name)).second);
  KVTIER_CUDA_STATES(CHECK_STATE)
#undef CHECK_STATE
  CHECK(names.count("ready") == 1);
  CHECK(names.count("too-old") == 1);
}

TEST_CASE("threads that ask at once get the same driver, which was started once") {
  Library fake;
  std::array<const CudaDriver*, 8> drivers{};
  std::vector<std::thread> threads;
  for (const CudaDriver*& driver : drivers) threads.emplace_back([&driver, &fake] { driver = &fake.driver(); });
  for (std::thread& thread : threads) thread.join();
  for (const CudaDriver* const driver : drivers) CHECK(driver == drivers[0]);
  CHECK(std::count(fake->calls.begin(), fake->calls.end(), "cuInit") == 1);
  Library other;
  CHECK(&other.driver() != drivers[0]);
}

TEST_CASE("a device is given by ordinal, else it is said what there is") {
  Library fake;
  const auto found = fake.driver().device(1);
  REQUIRE(found.is_ok());
  CHECK(found.value()->handle == 101);
  for (const int ordinal : {-1, 2}) {
    const auto missing = fake.driver().device(ordinal);
    REQUIRE_FALSE(missing.is_ok());
    CHECK(missing.status().code() == kvtier::Code::kInvalidValue);
    CHECK(contains(missing.status().message(), "device " + std::to_string(ordinal)));
  }
  const CudaDriver& absent = CudaDriver::get("libkvtier-no-such-driver.so.1");
  CHECK(absent.device(0).status().code() == kvtier::Code::kUnsupported);
  CHECK(absent.device(0).status().message() == absent.reason());
}
#endif
