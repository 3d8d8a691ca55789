// The payload checksum of a block: XXH3-64 of every 64 KiB leaf (a leaf never crosses a part), XXH3-128 over the leaves
// as little-endian words, both seeded with the sequence hash. Fed in canonical order, in pieces of any length, so that
// copying and checking are one pass. One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "digest/xxh3.h"

namespace kvtier {

using Checksum = std::array<std::uint8_t, 16>;

inline constexpr std::size_t kLeafBytes = 64 * 1024;

class PayloadChecksum {
 public:
  PayloadChecksum(std::uint64_t seed, std::uint64_t part_bytes) noexcept;

  // The next bytes of the block in canonical order.
  void update(const std::byte* data, std::size_t length) noexcept;
  // Every byte must have been fed; the object can be used again after reset().
  [[nodiscard]] Checksum finish() noexcept;
  void reset(std::uint64_t seed) noexcept;

 private:
  void close_leaf() noexcept;

  std::uint64_t part_bytes_ = 0;
  std::uint64_t part_left_ = 0;  // bytes until the part ends
  std::uint64_t leaf_left_ = 0;  // bytes until the leaf ends
  Xxh3Stream64 leaf_;
  Xxh3Stream128 root_;
};

// The same in one call over contiguous bytes.
[[nodiscard]] Checksum payload_checksum(std::span<const std::byte> payload, std::uint64_t part_bytes,
                                        std::uint64_t seed) noexcept;

// How many leaves a part has.
[[nodiscard]] constexpr std::uint64_t leaves_of_part(std::uint64_t part_bytes) noexcept {
  return (part_bytes + kLeafBytes - 1) / kLeafBytes;
}
// The checksum of a payload whose leaves somebody else has hashed, with the same seed: a device's kernel, for example.
[[nodiscard]] Checksum checksum_of_leaves(std::span<const std::uint64_t> leaf_hashes, std::uint64_t seed) noexcept;

}  // namespace kvtier
