// Sizes that come from outside are multiplied and rounded here, so that an overflow is a value that the caller must
// look at and never a small buffer. Pure arithmetic. Any thread.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace kvtier {

// nullopt when the product does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_product(std::uint64_t a, std::uint64_t b) noexcept {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

// nullopt when the sum does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_sum(std::uint64_t a, std::uint64_t b) noexcept {
  if (b > std::numeric_limits<std::uint64_t>::max() - a) return std::nullopt;
  return a + b;
}

// The next multiple of `unit`, which is not 0; nullopt when it does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_round_up(std::uint64_t size, std::uint64_t unit) noexcept {
  const std::uint64_t rest = size % unit;
  return rest == 0 ? std::optional(size) : checked_sum(size, unit - rest);
}

}  // namespace kvtier
