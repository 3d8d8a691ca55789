// numa.h: which processors are near a device, and keeping a thread on them.
#include "platform/numa.h"

#include <unistd.h>

#include <doctest/doctest.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "native/platform/fake_machine.h"
#include "platform/thread.h"

using kvtier::cpus_near_pci_device_below;
using kvtier::parse_cpu_list;
using Cpus = std::vector<unsigned>;

TEST_CASE("a list of processors is numbers and ranges, in any order, each processor once") {
  CHECK(parse_cpu_list("0") == Cpus{0});
  CHECK(parse_cpu_list("0-3,8,10-11") == Cpus{0, 1, 2, 3, 8, 10, 11});
  CHECK(parse_cpu_list("7,2-3,3") == Cpus{2, 3, 7});
  CHECK(parse_cpu_list("5-5") == Cpus{5});
  CHECK(parse_cpu_list("") == Cpus{});
}

TEST_CASE("what is no list of processors is none") {
  for (const char* text : {"-1", "a", "1,", ",1", "1-", "3-1", "1--2", "1 2", "0-3x", "99999999999", "0-4000000000"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_cpu_list(text).has_value());
  }
}

#if defined(__linux__)
namespace {

using kvtier::FakeMachine;

Cpus near(const FakeMachine& machine, const std::string& address) {
  return cpus_near_pci_device_below(machine.root(), address);
}

// Runs the body on a thread of its own, so that this one keeps its processors.
void on_a_thread(const std::function<void()>& body) {
  auto thread = kvtier::Thread::start("affinity", body);
  REQUIRE(thread.is_ok());
}

}  // namespace

TEST_CASE("the processors near a device are those of its node") {
  FakeMachine machine;
  machine.put("/sys/bus/pci/devices/0000:65:00.0/numa_node", "1");
  machine.put("/sys/devices/system/node/node0/cpulist", "0-3");
  machine.put("/sys/devices/system/node/node1/cpulist", "4-7,12");
  CHECK(near(machine, "0000:65:00.0") == Cpus{4, 5, 6, 7, 12});
  CHECK(near(machine, "0000:66:00.0") == Cpus{});
  CHECK(near(machine, "") == Cpus{});
}

TEST_CASE("a system that does not know a device's node, or not the node's processors, names none") {
  FakeMachine machine;
  machine.put("/sys/devices/system/node/node0/cpulist", "0-3");
  machine.put("/sys/bus/pci/devices/unknown/numa_node", "-1");
  CHECK(near(machine, "unknown") == Cpus{});
  machine.put("/sys/bus/pci/devices/odd/numa_node", "0x");
  CHECK(near(machine, "odd") == Cpus{});
  machine.put("/sys/bus/pci/devices/other/numa_node", "3");
  CHECK(near(machine, "other") == Cpus{});
  machine.put("/sys/devices/system/node/node3/cpulist", "nonsense");
  CHECK(near(machine, "other") == Cpus{});
  machine.put("/sys/devices/system/node/node3/cpulist", "");
  CHECK(near(machine, "other") == Cpus{});
}

TEST_CASE("a thread is kept on the processors that it is given") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  unsigned first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t inside;
  CPU_ZERO(&inside);
  bool kept = false;
  on_a_thread([&] {
    kept = kvtier::keep_thread_on(Cpus{first});
    (void)::sched_getaffinity(0, sizeof inside, &inside);
  });
  CHECK(kept);
  CHECK(CPU_COUNT(&inside) == 1);
  CHECK(CPU_ISSET(first, &inside));
}

TEST_CASE("a thread that was bound to some processors is not given others") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  if (CPU_COUNT(&before) < 2) {
    MESSAGE("skipped: this process has one processor");
    return;
  }
  Cpus all;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &before)) all.push_back(cpu);
  }
  cpu_set_t inside;
  CPU_ZERO(&inside);
  bool bound = false;
  bool kept = false;
  bool moved = true;
  on_a_thread([&] {
    bound = kvtier::keep_thread_on(Cpus{all[1]});
    kept = kvtier::keep_thread_on(all);
    moved = kvtier::keep_thread_on(Cpus{all[0]});
    (void)::sched_getaffinity(0, sizeof inside, &inside);
  });
  CHECK(bound);
  CHECK(kept);
  CHECK_FALSE(moved);
  CHECK(CPU_COUNT(&inside) == 1);
  CHECK(CPU_ISSET(all[1], &inside));
}

TEST_CASE("a thread that is given no processor of this machine keeps those that it has") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  cpu_set_t inside;
  bool kept = true;
  on_a_thread([&] {
    kept = kvtier::keep_thread_on(Cpus{60000}) || kvtier::keep_thread_on({});
    (void)::sched_getaffinity(0, sizeof inside, &inside);
  });
  CHECK_FALSE(kept);
  CHECK(CPU_EQUAL(&before, &inside));
}
#endif
