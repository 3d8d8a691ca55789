// Moving one block between two layouts on the CPU: gather, scatter or plain copy in canonical order, with the payload
// checksum in the same pass when it is asked for. Any thread; the caller holds both slots.
#pragma once

#include <cstddef>
#include <cstdint>

#include "digest/payload_checksum.h"
#include "layout/slot_layout.h"

namespace kvtier {

// A layout and the addresses of its regions. Borrows both.
struct SlotView {
  const SlotLayout* layout = nullptr;
  std::byte* const* regions = nullptr;
};

enum class Stores : std::uint8_t {
  kCached,     // ordinary stores: the destination is small or read soon
  kStreaming,  // non-temporal stores: the destination is large and cold
};

// Precondition: both layouts have the same shape and both slots are in range.
void copy_block(const SlotView& source, std::uint32_t source_slot, const SlotView& target, std::uint32_t target_slot,
                Stores stores) noexcept;
// Copies and returns the checksum of the bytes that were read, in one pass over them.
[[nodiscard]] Checksum copy_block_checked(const SlotView& source, std::uint32_t source_slot, const SlotView& target,
                                          std::uint32_t target_slot, Stores stores, std::uint64_t seed) noexcept;
[[nodiscard]] Checksum checksum_block(const SlotView& source, std::uint32_t source_slot, std::uint64_t seed) noexcept;

// Which stores pay for a batch of this many bytes (measured; see bench/micro/copy).
[[nodiscard]] Stores stores_for(std::uint64_t batch_bytes) noexcept;
// What Stores::kStreaming is on this machine: "avx2", or "memcpy" where there are no non-temporal stores to use.
[[nodiscard]] const char* streaming_variant() noexcept;

}  // namespace kvtier
