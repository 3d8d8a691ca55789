#include "platform/probe/cuda_probe.h"

#include <doctest/doctest.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "platform/probe/cufile_probe.h"

namespace {

// What the simulated driver answers; set by each test.
struct Answers {
  int version = 13000;
  int version_result = 0;
  int init_result = 0;
  int count = 2;
  int count_result = 0;
  int name_result = 0;
  bool started = false;
};
Answers answers;

kvtier::CudaProbeCalls simulated() {
  kvtier::CudaProbeCalls calls;
  calls.init = [](unsigned) {
    answers.started = true;
    return answers.init_result;
  };
  calls.driver_version = [](int* version) {
    *version = answers.version;
    return answers.version_result;
  };
  calls.device_count = [](int* count) {
    *count = answers.count;
    return answers.count_result;
  };
  calls.device_at = [](int* device, int ordinal) {
    *device = 100 + ordinal;
    return 0;
  };
  calls.device_name = [](char* name, int length, int device) {
    std::snprintf(name, static_cast<std::size_t>(length), "Simulated GPU %d", device);
    return answers.name_result;
  };
  return calls;
}

kvtier::CudaProbe probe(const Answers& given) {
  answers = given;
  return kvtier::probe_cuda_driver(simulated(), "libcuda.so.1");
}

bool says(const kvtier::CudaProbe& result, const char* words) {
  return result.reason.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("a working driver gives its version and its devices by ordinal") {
  const kvtier::CudaProbe result = probe({});
  CHECK(result.available);
  CHECK(result.reason.empty());
  CHECK(result.driver_version == "13.0");
  REQUIRE(result.devices.size() == 2);
  CHECK(result.devices[0] == "Simulated GPU 100");
  CHECK(result.devices[1] == "Simulated GPU 101");
  CHECK(probe({.version = 12040}).driver_version == "12.4");
}

TEST_CASE("an old driver is named with its version and never started") {
  const kvtier::CudaProbe result = probe({.version = 11020});
  CHECK_FALSE(result.available);
  CHECK(result.driver_version == "11.2");
  CHECK(says(result, "too old"));
  CHECK_FALSE(answers.started);
  CHECK(probe({.version = 11030}).available);
}

TEST_CASE("each way in which the driver refuses to start has a sentence of its own that says what to do") {
  std::set<std::string> reasons;
  for (const int code : {34, 46, 100, 802, 803, 804, 999, 7}) {
    const kvtier::CudaProbe result = probe({.init_result = code});
    CAPTURE(code);
    CHECK_FALSE(result.available);
    CHECK(result.devices.empty());
    CHECK(says(result, std::to_string(code).c_str()));
    CHECK(reasons.insert(result.reason).second);
  }
  CHECK(says(probe({.init_result = 100}), "no device"));
  CHECK(says(probe({.init_result = 34}), "stub"));
  CHECK(says(probe({.init_result = 802}), "nvidia-fabricmanager"));
}

TEST_CASE("a driver without devices, with nonsense or with failing calls is not available") {
  CHECK(says(probe({.count = 0}), "no device"));
  CHECK(says(probe({.count = 1 << 30}), "does not work"));
  CHECK(says(probe({.count_result = 3}), "cuDeviceGetCount"));
  CHECK(says(probe({.name_result = 101}), "cuDeviceGetName"));
  CHECK(says(probe({.version_result = 1}), "cuDriverGetVersion"));
  CHECK(says(probe({.version = 0}), "too old"));
  CHECK(probe({.name_result = 101}).devices.empty());
}

TEST_CASE("a driver that lacks a function is no driver") {
  kvtier::CudaProbeCalls calls = simulated();
  calls.device_name = nullptr;
  const kvtier::CudaProbe result = kvtier::probe_cuda_driver(calls, "libcuda.so.1");
  CHECK_FALSE(result.available);
  CHECK(says(result, "no CUDA driver"));
}

TEST_CASE("a driver that is not installed is told from a library that is none and from one that cannot be loaded") {
  const kvtier::CudaProbe absent = kvtier::probe_cuda("libkvtier-no-such-driver.so.1");
  CHECK_FALSE(absent.available);
  CHECK(says(absent, "libkvtier-no-such-driver.so.1 was not found"));
  CHECK(says(absent, "install NVIDIA's driver"));

#if defined(__linux__)
  const kvtier::CudaProbe other = kvtier::probe_cuda("libm.so.6");
  CHECK_FALSE(other.available);
  CHECK(says(other, "no CUDA driver"));

  std::string path = "/tmp/kvtier-driver-XXXXXX";
  const int fd = ::mkstemp(path.data());
  REQUIRE(fd >= 0);
  REQUIRE(::write(fd, "not a library", 13) == 13);
  ::close(fd);
  const kvtier::CudaProbe broken = kvtier::probe_cuda(path);
  ::unlink(path.c_str());
  CHECK_FALSE(broken.available);
  CHECK(says(broken, "cannot be loaded"));
#endif
}

TEST_CASE("cuFile is not looked for without a device") {
  const kvtier::CufileProbe result = kvtier::probe_cufile(false);
  CHECK_FALSE(result.available);
  CHECK(result.reason.find("needs a GPU") != std::string::npos);
}
