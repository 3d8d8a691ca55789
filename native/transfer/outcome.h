// What became of one block of a transfer: a code, and the furthest place that holds it. Any thread.
#pragma once

#include <cstdint>

#include "core/codes.h"

namespace kvtier {

enum class Stage : std::uint8_t {
  kNowhere = 0,  // a miss, or a check that keeps nothing
  kOnGpu = 1,    // a miss: a GPU failed that was to copy, hash or read it, not the disk or memory at the other end
  kTarget = 2,   // the target holds the block
};

// As it crosses the seam: the code in the low byte, the stage in the high byte.
using Outcome = std::uint16_t;

// No outcome yet; never reported.
inline constexpr Outcome kUnknownOutcome = 0xffff;

[[nodiscard]] constexpr Outcome make_outcome(Code code, Stage stage) noexcept {
  return static_cast<Outcome>(static_cast<unsigned>(code) | (static_cast<unsigned>(stage) << 8));
}
[[nodiscard]] constexpr Outcome miss(Code code) noexcept {
  return make_outcome(code, Stage::kNowhere);
}
[[nodiscard]] constexpr Code code_of(Outcome outcome) noexcept {
  return static_cast<Code>(outcome & 0xff);
}
[[nodiscard]] constexpr Stage stage_of(Outcome outcome) noexcept {
  return static_cast<Stage>(outcome >> 8);
}

}  // namespace kvtier
