// The identity of a block as native code sees it: 32 opaque bytes, and the seed that binds a payload checksum to them.
// Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace kvtier {

using SequenceHash = std::array<std::uint8_t, 32>;

// The first eight bytes, little endian: the seed of the payload checksum, so that an index that points at another
// block's slot is a miss.
[[nodiscard]] inline std::uint64_t seed_of(const SequenceHash& hash) noexcept {
  std::uint64_t seed = 0;
  for (unsigned i = 0; i < 8; ++i) seed |= std::uint64_t{hash[i]} << (8 * i);
  return seed;
}

}  // namespace kvtier
