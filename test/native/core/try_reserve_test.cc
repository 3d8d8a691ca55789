#include "core/try_reserve.h"

#include <doctest/doctest.h>

#include <cstdint>

namespace kvtier {
namespace {

TEST_CASE("a vector has the room that was reserved, and keeps what it holds") {
  std::vector<std::uint32_t> values = {1, 2};
  CHECK(try_reserve(values, 1000).is_ok());
  CHECK(values.capacity() >= 1000);
  CHECK(values == std::vector<std::uint32_t>{1, 2});
  CHECK(try_reserve(values, 3).is_ok());
}

TEST_CASE("room that a vector can never have is refused") {
  std::vector<std::uint64_t> values = {1};
  CHECK(try_reserve(values, values.max_size() + 1).code() == Code::kOutOfMemory);
  CHECK(values == std::vector<std::uint64_t>{1});
}

// Sanitizers end the process instead of giving nothing.
#if !defined(KVTIER_SANITIZED)
TEST_CASE("room that the machine does not have is refused") {
  std::vector<std::uint64_t> values;
  // More than an address space holds.
  const Status status = try_reserve(values, std::size_t{1} << 47);
  CHECK(status.code() == Code::kOutOfMemory);
  CHECK(status.message().find("140737488355328 times 8 bytes") == 0);
  CHECK(values.capacity() == 0);
}
#endif

}  // namespace
}  // namespace kvtier
