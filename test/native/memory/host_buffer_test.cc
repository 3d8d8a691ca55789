#include "memory/host_buffer.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "native/memory/pages.h"
#include "platform/system_memory.h"

using kvtier::Code;
using kvtier::HostBuffer;

TEST_CASE("a buffer is 2 MiB aligned, zero, writable to its last byte, and as large as asked") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, std::size_t{2} << 20, (std::size_t{5} << 20) + 3}) {
    auto buffer = HostBuffer::allocate(size);
    REQUIRE(buffer.is_ok());
    std::byte* const data = buffer.value().data();
    CHECK(buffer.value().size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(data) % (std::size_t{2} << 20) == 0);
    CHECK(data[0] == std::byte{0});
    CHECK(data[size - 1] == std::byte{0});
    std::memset(data, 0xAB, size);
    CHECK(data[size - 1] == std::byte{0xAB});
  }
}

#if defined(__linux__)
TEST_CASE("a buffer that was asked for touched is in memory before its first use, with any number of threads") {
  for (const unsigned threads : {0U, 1U, 3U}) {
    kvtier::HostBufferOptions options;
    options.threads = threads;
    const std::size_t size = std::size_t{70} << 20;
    auto buffer = HostBuffer::allocate(size, options);
    REQUIRE(buffer.is_ok());
    std::vector<unsigned char> resident(size / 4096);
    REQUIRE(::mincore(buffer.value().data(), size, resident.data()) == 0);
    std::size_t missing = 0;
    for (const unsigned char page : resident) missing += (page & 1) == 0 ? 1 : 0;
    CHECK(missing == 0);
  }
}

TEST_CASE("a buffer that was not asked for touched takes no memory yet") {
  kvtier::HostBufferOptions options;
  options.prefault = false;
  const std::size_t size = std::size_t{8} << 20;
  auto buffer = HostBuffer::allocate(size, options);
  REQUIRE(buffer.is_ok());
  std::vector<unsigned char> resident(size / 4096);
  REQUIRE(::mincore(buffer.value().data(), size, resident.data()) == 0);
  std::size_t present = 0;
  for (const unsigned char page : resident) present += page & 1;
  CHECK(present == 0);
}
#endif

TEST_CASE("more than the machine has free is refused with both numbers, and nothing is touched") {
  const std::size_t size = static_cast<std::size_t>(kvtier::system_memory().total_bytes) * 2;
  const auto buffer = HostBuffer::allocate(size);
  REQUIRE_FALSE(buffer.is_ok());
  CHECK(buffer.status().code() == Code::kOutOfMemory);
  CHECK(buffer.status().message().find(std::to_string(size) + " bytes") != std::string::npos);
  CHECK(buffer.status().message().find("available") != std::string::npos);
}

TEST_CASE("no room left refuses every size, and an unknown amount refuses none") {
  CHECK(kvtier::check_room(1, 0).code() == Code::kOutOfMemory);
  CHECK(kvtier::check_room(4096, 4096).is_ok());
  const kvtier::Status refused = kvtier::check_room(4097, 4096);
  CHECK(refused.code() == Code::kOutOfMemory);
  CHECK(refused.message().find("4097 bytes") != std::string::npos);
  CHECK(refused.message().find("4096 available") != std::string::npos);
  CHECK(kvtier::check_room(std::size_t{1} << 60, std::nullopt).is_ok());
}

TEST_CASE("sizes that no address space holds are refused") {
  kvtier::HostBufferOptions options;
  options.prefault = false;
  const std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const std::size_t size : {most, most - (std::size_t{2} << 20), most - (std::size_t{4} << 20), most / 2}) {
    const auto buffer = HostBuffer::allocate(size, options);
    REQUIRE_FALSE(buffer.is_ok());
    CHECK(buffer.status().code() == Code::kOutOfMemory);
  }
}

TEST_CASE("zero bytes are refused as an invalid value") {
  const auto buffer = HostBuffer::allocate(0);
  REQUIRE_FALSE(buffer.is_ok());
  CHECK(buffer.status().code() == Code::kInvalidValue);
}

TEST_CASE("a buffer that was moved from is empty, and the bytes go with the other") {
  auto made = HostBuffer::allocate(4096);
  REQUIRE(made.is_ok());
  HostBuffer first = std::move(made).value();
  first.data()[5] = std::byte{42};
  std::byte* const data = first.data();
  HostBuffer second = std::move(first);
  CHECK(second.data() == data);
  CHECK(second.data()[5] == std::byte{42});
  HostBuffer third;
  third = std::move(second);
  CHECK(third.data() == data);
  CHECK(third.size() == 4096);
  CHECK(HostBuffer().data() == nullptr);
  CHECK(HostBuffer().size() == 0);
}

TEST_CASE("addresses that are kept read as zero when their buffer is gone, and take no memory") {
  const std::size_t size = std::size_t{8} << 20;
  auto made = HostBuffer::allocate(size);
  REQUIRE(made.is_ok());
  std::byte* const data = made.value().data();
  std::memset(data, 0xAB, size);
  made.value().keep_addresses();
  {
    const HostBuffer moved = std::move(made).value();
    CHECK(data[5] == std::byte{0xAB});
  }
  CHECK(data[5] == std::byte{0});
  data[size - 1] = std::byte{1};
#if defined(__linux__)
  std::vector<unsigned char> resident(size / 4096);
  REQUIRE(::mincore(data, size, resident.data()) == 0);
  std::size_t present = 0;
  for (const unsigned char page : resident) present += page & 1;
  CHECK(present <= size / 2 / 4096);
#endif
  ::munmap(data, size);
}

#if defined(__linux__)
namespace {

using kvtier::kPage;
using kvtier::resident_pages;
using kvtier::untouched_buffer;

std::atomic<int> affinities_set{0};

long faults_of_this_thread() {
  rusage usage{};
  REQUIRE(::getrusage(RUSAGE_THREAD, &usage) == 0);
  return usage.ru_minflt;
}

}  // namespace

// Counts the calls of this program, instead of the C library's.
extern "C" int sched_setaffinity(pid_t thread, std::size_t bytes, const cpu_set_t* cpus) noexcept {
  ++affinities_set;
  return static_cast<int>(::syscall(SYS_sched_setaffinity, thread, bytes, cpus));
}

TEST_CASE("a range of an untouched buffer is touched alone, by the kernel's call and by writing") {
  for (const bool by_writing : {false, true}) {
    const HostBuffer buffer = untouched_buffer(64 * kPage);
    REQUIRE(buffer.touch(8 * kPage + 100, 4 * kPage, {.by_writing = by_writing}).is_ok());
    CHECK(resident_pages(buffer.data(), 64 * kPage) == 5);
    CHECK(resident_pages(buffer.data() + 8 * kPage, 5 * kPage) == 5);
    REQUIRE(buffer.touch(0, 0).is_ok());
    REQUIRE(buffer.touch(64 * kPage, 0).is_ok());
    CHECK(resident_pages(buffer.data(), 64 * kPage) == 5);
  }
}

TEST_CASE("touching keeps what the bytes hold") {
  for (const bool by_writing : {false, true}) {
    const HostBuffer buffer = untouched_buffer(64 * kPage);
    std::memset(buffer.data(), 0xAB, 16 * kPage);
    REQUIRE(buffer.touch(0, 64 * kPage, {.by_writing = by_writing}).is_ok());
    for (std::size_t at = 0; at < 64 * kPage; at += kPage / 2) {
      CHECK(buffer.data()[at] == (at < 16 * kPage ? std::byte{0xAB} : std::byte{0}));
    }
    CHECK(resident_pages(buffer.data(), 64 * kPage) == 64);
  }
}

TEST_CASE("memory that is touched near a device is touched by threads there, and this one keeps its processors") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  const std::size_t size = std::size_t{4} << 20;
  unsigned first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  // The other is no processor of this machine: then the memory is only not near.
  for (const unsigned cpu : {first, 60000U}) {
    const HostBuffer buffer = untouched_buffer(size);
    const std::vector<unsigned> cpus = {cpu};
    const long faults = faults_of_this_thread();
    affinities_set.store(0);
    REQUIRE(buffer.touch(0, size, {.threads = 1, .cpus = cpus}).is_ok());
    CHECK(affinities_set.load() == (cpu == first ? 1 : 0));
    CHECK(faults_of_this_thread() - faults < static_cast<long>(size / kPage / 2));
    CHECK(resident_pages(buffer.data(), size) == size / kPage);
  }
  cpu_set_t after;
  REQUIRE(::sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&before, &after));
}

TEST_CASE("touching that is stopped leaves the rest untouched") {
  const std::size_t size = std::size_t{1} << 20;
  const HostBuffer buffer = untouched_buffer(size);
  const std::atomic<bool> stop{true};
  REQUIRE(buffer.touch(0, size, {.stop = &stop}).is_ok());
  CHECK(resident_pages(buffer.data(), size) == 0);
}

TEST_CASE("touching more than the machine has free is refused, and nothing is touched") {
  // Between what is free and what there is: a machine that overcommits gives addresses for that.
  const kvtier::SystemMemory memory = kvtier::system_memory();
  const std::uint64_t available = memory.available_bytes.value_or(memory.total_bytes);
  const std::size_t size = available + (memory.total_bytes - available) / 2;
  const auto buffer = HostBuffer::allocate(size, {.prefault = false});
  if (!buffer.is_ok() || size < available + (std::size_t{64} << 20)) {
    MESSAGE("skipped: this machine does not overcommit, or all of its memory is free");
    return;
  }
  // Were it not refused, it would stop before it takes the memory of the whole machine.
  const std::atomic<bool> stop{true};
  const kvtier::Status refused = buffer.value().touch(0, size, {.stop = &stop});
  CHECK(refused.code() == Code::kOutOfMemory);
  CHECK(refused.message().find(std::to_string(size) + " bytes") != std::string::npos);
  CHECK(resident_pages(buffer.value().data(), std::size_t{64} << 20) == 0);
}

TEST_CASE("memory that is kept from children is not in a child of fork") {
  for (const bool is_kept : {false, true}) {
    HostBuffer buffer = untouched_buffer(kPage);
    buffer.data()[0] = std::byte{1};
    if (is_kept) buffer.keep_from_children();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      unsigned char resident = 0;
      ::_exit(::mincore(buffer.data(), kPage, &resident) == 0 ? 1 : 2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == (is_kept ? 2 : 1));
    CHECK(buffer.data()[0] == std::byte{1});
  }
}
#endif
