#include "core/checked_size.h"

#include <doctest/doctest.h>
#include <cstdint>

namespace {
constexpr std::uint64_t kMax = UINT64_MAX;
}

TEST_CASE("a product or sum that fits is that, and one that does not fit is nothing") {
  CHECK(kvtier::checked_product(0, kMax) == 0U);
  CHECK(kvtier::checked_product(kMax, 1) == kMax);
  CHECK(kvtier::checked_product(std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1) == 0xFFFFFFFF00000000U);
  CHECK_FALSE(kvtier::checked_product(std::uint64_t{1} << 32, std::uint64_t{1} << 32).has_value());
  CHECK_FALSE(kvtier::checked_product(kMax, 2).has_value());
  CHECK(kvtier::checked_sum(kMax - 1, 1) == kMax);
  CHECK_FALSE(kvtier::checked_sum(kMax, 1).has_value());
}

TEST_CASE("rounding up gives the next multiple, or nothing beyond 64 bits") {
  CHECK(kvtier::checked_round_up(0, 4096) == 0U);
  CHECK(kvtier::checked_round_up(1, 4096) == 4096U);
  CHECK(kvtier::checked_round_up(4096, 4096) == 4096U);
  CHECK(kvtier::checked_round_up(4097, 4096) == 8192U);
  CHECK_FALSE(kvtier::checked_round_up(kMax - 100, 4096).has_value());
}
