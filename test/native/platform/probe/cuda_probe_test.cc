#include "platform/probe/cuda_probe.h"

#include <doctest/doctest.h>
#include <string>

#if defined(__linux__)
#include "../cuda/fake_library.h"

TEST_CASE("the probe tells what the driver object found") {
  kvtier::fake::Library fake;
  fake->version = 12040;
  const kvtier::CudaProbe result = kvtier::probe_cuda(fake.path());
  CHECK(result.available);
  CHECK(result.state == kvtier::CudaState::kReady);
  CHECK(result.reason.empty());
  CHECK(result.driver_version == "12.4");
  REQUIRE(result.devices.size() == 2);
  CHECK(result.devices[0].name == "Fake GPU 100");
  CHECK(result.devices[1].name == "Fake GPU 101");
  CHECK(fake->retained == 0);
}

TEST_CASE("the probe gives the version also of a driver that cannot be used, with the reason") {
  kvtier::fake::Library fake;
  fake->device_count = 0;
  const kvtier::CudaProbe result = kvtier::probe_cuda(fake.path());
  CHECK_FALSE(result.available);
  CHECK(result.state == kvtier::CudaState::kNoDevice);
  CHECK(result.reason == fake.driver().reason());
  CHECK(result.driver_version == "13.0");
  CHECK(result.devices.empty());
}
#endif

TEST_CASE("without a driver the probe says so, and has no version") {
  const kvtier::CudaProbe absent = kvtier::probe_cuda("libkvtier-no-such-driver.so.1");
  CHECK_FALSE(absent.available);
  CHECK(absent.state == kvtier::CudaState::kAbsent);
  CHECK(absent.reason.find("was not found") != std::string::npos);
  CHECK(absent.driver_version.empty());
}
