// The comparison that stands between a disk's bytes and a hit.
#include "storage/verify.h"

#include <doctest/doctest.h>

#include <cstdint>

using kvtier::Checksum;

TEST_CASE("equal checksums match") {
  const Checksum checksum{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  CHECK(kvtier::checksum_matches(checksum, Checksum(checksum)));
}

TEST_CASE("checksums that differ in any bit do not match") {
  const Checksum checksum{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  for (std::size_t bit = 0; bit < 128; ++bit) {
    Checksum other = checksum;
    other[bit / 8] = static_cast<std::uint8_t>(other[bit / 8] ^ (1U << (bit % 8)));
    CHECK_FALSE(kvtier::checksum_matches(checksum, other));
  }
}
