#include "images/same_bytes.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

namespace kvtier {
namespace {

MemoryFile file_of(std::vector<std::byte> bytes) {
  MemoryFile file = MemoryFile::create().value();
  REQUIRE(file.reserve(bytes.size()).is_ok());
  iovec part{bytes.data(), bytes.size()};
  if (!bytes.empty()) REQUIRE(file.write(0, std::span(&part, 1)).is_ok());
  return file;
}

TEST_CASE("same_bytes: two files are the same where every byte is") {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{262'144}, std::size_t{700'001}}) {
    CAPTURE(size);
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 977);
    const MemoryFile file = file_of(bytes);
    CHECK(same_bytes(file, file_of(bytes)).value());
    std::vector<std::byte> longer = bytes;
    longer.push_back(std::byte{0});
    CHECK_FALSE(same_bytes(file, file_of(longer)).value());
    for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
      if (size == 0) continue;
      std::vector<std::byte> other = bytes;
      other[at] ^= std::byte{1};
      CHECK_FALSE(same_bytes(file, file_of(other)).value());
    }
  }
}

}  // namespace
}  // namespace kvtier
