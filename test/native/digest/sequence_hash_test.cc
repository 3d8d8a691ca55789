#include "digest/sequence_hash.h"

#include <doctest/doctest.h>

TEST_CASE("the seed is the hash's first eight bytes, little endian") {
  kvtier::SequenceHash hash{};
  for (unsigned i = 0; i < hash.size(); ++i) hash[i] = static_cast<std::uint8_t>(i + 1);
  CHECK(kvtier::seed_of(hash) == 0x0807060504030201U);
  hash[8] = 0xFF;
  CHECK(kvtier::seed_of(hash) == 0x0807060504030201U);
  hash[7] = 0xFF;
  CHECK(kvtier::seed_of(hash) == 0xFF07060504030201U);
}
