// The shape of one layer group's KV, in bytes: what a block holds and how large it is. Pure arithmetic. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"

namespace kvtier {

// Canonical order of a block's bytes, everywhere outside device memory: [part][layer][K|V][token].
struct GroupShape {
  std::uint32_t parts = 1;             // devices of a tensor-parallel group
  std::uint32_t layers = 0;            // layers of the group
  std::uint32_t outer = 2;             // 2 for K and V, 1 for a latent (MLA) or recurrent state
  std::uint32_t tokens_per_block = 0;  // tokens a block covers
  std::uint32_t bytes_per_token = 0;   // of one layer's K (or V, or latent), in one part

  // One layer's K or V of one part, contiguous in every layout.
  [[nodiscard]] std::uint64_t fragment_bytes() const noexcept {
    return std::uint64_t{tokens_per_block} * bytes_per_token;
  }
  [[nodiscard]] std::uint64_t part_bytes() const noexcept { return fragment_bytes() * layers * outer; }
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return part_bytes() * parts; }
  // A slot of host memory or of a slab: the block, rounded up to 4 KiB.
  [[nodiscard]] std::uint64_t slot_stride() const noexcept { return (block_bytes() + 4095) / 4096 * 4096; }

  // Fails with kInvalidValue when a field is 0, outer is not 1 or 2, or a block would exceed kMaxBlockBytes or
  // kMaxBlockFragments. The sizes above are meaningful only for a valid shape; of any other they may have wrapped.
  [[nodiscard]] Status validate() const;

  friend bool operator==(const GroupShape&, const GroupShape&) = default;
};

inline constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{1} << 30;
// parts * layers * outer: what a layout lists one by one.
inline constexpr std::uint64_t kMaxBlockFragments = std::uint64_t{1} << 20;

// "1 parts x 32 layers x 2 outer x 16 tokens x 2048 bytes", for messages.
[[nodiscard]] std::string describe(const GroupShape& shape);

}  // namespace kvtier
