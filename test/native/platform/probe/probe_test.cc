#include "platform/probe/probe.h"

#include <doctest/doctest.h>
#include <cerrno>
#include <cstdlib>
#include <set>
#include <string>

TEST_CASE("the report of this machine is complete, and each thing is there or has a reason") {
  kvtier::ProbeOptions options;
  options.cuda_library = "libkvtier-no-such-driver.so.1";
  const kvtier::ProbeReport report = kvtier::probe_machine(options);
  CHECK_FALSE(report.cpu.name.empty());
  CHECK(report.cpu.count >= 1);
  CHECK(report.memory.total_bytes > 0);
  CHECK(report.memory.memlock_bytes > 0);
  CHECK(report.numa.nodes >= 1);
  CHECK_FALSE(report.huge_pages.mode.empty());
  CHECK(report.huge_pages.ok == report.huge_pages.reason.empty());
  CHECK(report.io_uring.available == report.io_uring.reason.empty());
  CHECK_FALSE(report.cuda.available);
  CHECK_FALSE(report.cuda.reason.empty());
  CHECK_FALSE(report.cufile.available);
  CHECK_FALSE(report.cufile.reason.empty());
  CHECK_FALSE(report.directory.has_value());
}

TEST_CASE("a directory is probed when one is named") {
  kvtier::ProbeOptions options;
  options.directory = "/tmp";
  options.cuda_library = "libkvtier-no-such-driver.so.1";
  const kvtier::ProbeReport report = kvtier::probe_machine(options);
  REQUIRE(report.directory.has_value());
  CHECK(report.directory->path == "/tmp");
}

TEST_CASE("the environment can name the driver's file") {
  ::setenv("KVTIER_CUDA_LIBRARY", "/opt/driver/libcuda.so.1", 1);
  CHECK(kvtier::cuda_library_from_environment() == "/opt/driver/libcuda.so.1");
  ::unsetenv("KVTIER_CUDA_LIBRARY");
  CHECK(kvtier::cuda_library_from_environment().empty());
}

TEST_CASE("the mode of huge pages is the word in brackets, and 'never' has a remedy") {
  CHECK(kvtier::huge_pages_of("always [madvise] never").mode == "madvise");
  CHECK(kvtier::huge_pages_of("always [madvise] never").ok);
  CHECK(kvtier::huge_pages_of("[always] madvise never").ok);
  const kvtier::HugePagesProbe off = kvtier::huge_pages_of("always madvise [never]");
  CHECK(off.mode == "never");
  CHECK_FALSE(off.ok);
  CHECK(off.reason.find("madvise") != std::string::npos);
  CHECK(kvtier::huge_pages_of(std::nullopt).mode == "none");
  CHECK_FALSE(kvtier::huge_pages_of("]nonsense[").ok);
}

TEST_CASE("the numbers in a kernel list are counted") {
  CHECK(kvtier::count_in_list("0") == 1);
  CHECK(kvtier::count_in_list("0-3") == 4);
  CHECK(kvtier::count_in_list("0-1,4,6-7") == 5);
  CHECK(kvtier::count_in_list("") == 0);
  CHECK(kvtier::count_in_list("3-1") == 0);
  CHECK(kvtier::count_in_list("none") == 0);
}

TEST_CASE("each refusal of io_uring says why and that threads take over") {
  std::set<std::string> reasons;
  for (const int error : {ENOSYS, EPERM, ENOMEM, EMFILE}) {
    const std::string reason = kvtier::io_uring_refusal(error);
    CHECK(reasons.insert(reason).second);
    CHECK(reason.find("threads") != std::string::npos);
  }
}
