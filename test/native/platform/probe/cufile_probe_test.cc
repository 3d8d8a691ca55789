#include "platform/probe/cufile_probe.h"

#include <doctest/doctest.h>

TEST_CASE("the probe does not look for cuFile without a device") {
  const kvtier::CufileProbe result = kvtier::probe_cufile("libkvtier-no-such-driver.so.1", "", "");
  CHECK_FALSE(result.available);
  CHECK(result.state == kvtier::CufileState::kNoGpu);
  CHECK(result.reason.find("needs a GPU") != std::string::npos);
}

#if defined(__linux__)
#include "native/platform/cufile/cufile_world.h"

using kvtier::CufileProbe;
using kvtier::CufileState;
using kvtier::probe_cufile;
using namespace kvtier::cufile_world;
using kvtier::sim::has;

TEST_CASE("the probe tells what cuFile's object found") {
  const CufileWorld world;
  const CufileProbe found = probe_cufile(simulated_cuda(), world.file.path(), "");
  CHECK(found.available);
  CHECK(found.state == CufileState::kReady);
  CHECK(found.reason.empty());
  CHECK(world.sim.count("contexts") == 1);
  const CufileProbe absent = probe_cufile(simulated_cuda(), "libkvtier-no-such-cufile.so.0", "/tmp");
  CHECK_FALSE(absent.available);
  CHECK(absent.state == CufileState::kAbsent);
  CHECK(has(absent.reason, "was not found"));
}

TEST_CASE("in a directory the probe tries transfers, and gives the reason where they fail") {
  const CufileWorld world;
  const Folder folder;
  CHECK(probe_cufile(simulated_cuda(), world.file.path(), folder.path()).available);
  CHECK(world.file.calls("cuFileRead") == 1);
  world.file.fail_call("cuFileRead", 1, 5044, 1);
  const CufileProbe failing = probe_cufile(simulated_cuda(), world.file.path(), folder.path());
  CHECK_FALSE(failing.available);
  CHECK(failing.state == CufileState::kReady);
  CHECK(has(failing.reason, "CU_FILE_IO_ERROR (5044)"));
  const CufileProbe nowhere = probe_cufile(simulated_cuda(), world.file.path(), folder.path() + "/missing");
  CHECK_FALSE(nowhere.available);
  CHECK(has(nowhere.reason, "/missing"));
  CHECK(folder.entries() == 0);
  CHECK(world.sim.count("allocations") == 0);
}

TEST_CASE("the probe takes the first GPU that cuFile reaches") {
  const CufileWorld world;
  const Folder folder;
  // The driver is ready; the first device is asked, and does not say that it can.
  world.sim.fail_call("cuDeviceGetAttribute", 1, 1, 1);
  CHECK(probe_cufile(simulated_cuda(), world.file.path(), folder.path()).available);
  CHECK(world.sim.calls("cuDeviceGetAttribute") >= 2);
}
#endif
