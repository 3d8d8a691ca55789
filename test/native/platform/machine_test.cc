// cpu.h, system_memory.h and text_file.h: what the machine says of itself.
#include <unistd.h>

#include <doctest/doctest.h>
#include <cstdlib>
#include <string>

#include "platform/cpu.h"
#include "platform/system_memory.h"
#include "platform/text_file.h"

TEST_CASE("the machine has a processor with a name, and memory of which no more is free than there is") {
  CHECK(kvtier::cpu_count() >= 1);
  CHECK_FALSE(kvtier::cpu_name().empty());
  const kvtier::SystemMemory memory = kvtier::system_memory();
  CHECK(memory.total_bytes > (std::uint64_t{64} << 20));
  CHECK(memory.available_bytes > 0);
  CHECK(memory.available_bytes <= memory.total_bytes);
  CHECK(kvtier::memlock_limit_bytes() > 0);
}

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
