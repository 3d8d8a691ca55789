// Bytes derived from (sequence hash, layer, K or V, offset), for demos, replays and tests: every wrong byte shows where
// it came from. Any thread.
#pragma once

#include <cstdint>

#include "digest/sequence_hash.h"
#include "kernels/copy_block.h"

namespace kvtier {

void fill_pattern(const SlotView& target, std::uint32_t slot, const SequenceHash& hash) noexcept;
// True when every byte of the slot is the pattern of `hash`.
[[nodiscard]] bool check_pattern(const SlotView& source, std::uint32_t slot, const SequenceHash& hash) noexcept;

}  // namespace kvtier
