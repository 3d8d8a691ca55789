// cpu.h, system_memory.h and text_file.h: what the machine says of itself.
#include <unistd.h>

#include <doctest/doctest.h>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "native/platform/fake_machine.h"
#include "platform/cpu.h"
#include "platform/system_memory.h"
#include "platform/text_file.h"

TEST_CASE("the machine has a processor with a name, and memory of which no more is free than there is") {
  CHECK(kvtier::cpu_count() >= 1);
  CHECK_FALSE(kvtier::cpu_name().empty());
  const kvtier::SystemMemory memory = kvtier::system_memory();
  CHECK(memory.total_bytes > (std::uint64_t{64} << 20));
  REQUIRE(memory.available_bytes.has_value());
  CHECK(*memory.available_bytes > 0);
  CHECK(*memory.available_bytes <= memory.total_bytes);
  CHECK(kvtier::memlock_limit_bytes() > 0);
}

#if defined(__linux__)
namespace {

using kvtier::FakeMachine;

std::optional<std::uint64_t> available(const FakeMachine& machine) {
  return kvtier::system_memory_below(machine.root()).available_bytes;
}

}  // namespace

TEST_CASE("what is available is the least that the kernel and each control group above the process allow") {
  FakeMachine machine;
  machine.put("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB");
  CHECK(available(machine) == 600 * 1024U);
  machine.put("/proc/self/cgroup", "0::/a/b");
  CHECK(available(machine) == 600 * 1024U);
  machine.put("/sys/fs/cgroup/a/b/memory.max", "max");
  machine.put("/sys/fs/cgroup/a/b/memory.current", "100");
  CHECK(available(machine) == 600 * 1024U);
  machine.put("/sys/fs/cgroup/a/memory.max", "5000");
  machine.put("/sys/fs/cgroup/a/memory.current", "3000");
  CHECK(available(machine) == 2000U);
  machine.put("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 700");
  CHECK(available(machine) == 2700U);
}

TEST_CASE("a control group without room leaves 0 bytes, and a system that says nothing leaves it open") {
  FakeMachine machine;
  CHECK_FALSE(available(machine).has_value());
  machine.put("/proc/meminfo", "MemTotal: 1000 kB");
  CHECK_FALSE(available(machine).has_value());
  machine.put("/proc/self/cgroup", "0::/");
  machine.put("/sys/fs/cgroup/memory.max", "5000");
  machine.put("/sys/fs/cgroup/memory.current", "5001");
  CHECK(available(machine) == std::optional<std::uint64_t>(0));
}
#endif

TEST_CASE("features are those of the architecture") {
#if defined(__x86_64__)
  CHECK_FALSE(kvtier::cpu_features().neon);
#elif defined(__aarch64__)
  CHECK(kvtier::cpu_features().neon);
  CHECK_FALSE(kvtier::cpu_features().avx2);
#endif
}

TEST_CASE("a text file is read without white space at its end, and not beyond the limit") {
  std::string path = "/tmp/kvtier-text-XXXXXX";
  const int fd = ::mkstemp(path.data());
  REQUIRE(fd >= 0);
  const std::string text = "first line\nsecond line \n\n";
  REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  ::close(fd);
  CHECK(kvtier::read_text_file(path) == "first line\nsecond line");
  CHECK(kvtier::read_text_file(path, 5) == "first");
  ::unlink(path.c_str());
  CHECK_FALSE(kvtier::read_text_file(path).has_value());
  CHECK_FALSE(kvtier::read_text_file("/").has_value());
}

TEST_CASE("a number is found after the name that opens its line") {
  const std::string text = "MemTotal:       123 kB\nMemFree: 45 kB\nHugePages_Total:\nOther: max";
  CHECK(kvtier::number_after(text, "MemTotal:") == 123U);
  CHECK(kvtier::number_after(text, "MemFree:") == 45U);
  CHECK_FALSE(kvtier::number_after(text, "HugePages_Total:").has_value());
  CHECK_FALSE(kvtier::number_after(text, "Other:").has_value());
  CHECK_FALSE(kvtier::number_after(text, "Total:").has_value());
  CHECK(kvtier::number_after("9223372036854771712", "") == 9223372036854771712U);
  CHECK_FALSE(kvtier::number_after("max", "").has_value());
}
