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

// How bytes are copied in chunks, and what ends it.
struct CopyMethod {
  void (*copy)(std::byte* target, const std::byte* source, std::size_t length) noexcept;
  void (*fence)() noexcept;
  std::uint64_t chunk_bytes;
};

// A block whose pieces go to places that are no layout: copies them in the order of the block and makes the checksum in
// the same pass. The caller holds the block.
class CheckedCopy {
 public:
  // `part_bytes` of the block's shape.
  CheckedCopy(Stores stores, std::uint64_t seed, std::uint64_t part_bytes) noexcept;
  // The next bytes of the block, to there.
  void copy(std::byte* target, const std::byte* source, std::uint64_t length) noexcept;
  // The next bytes of the block, to nowhere.
  void skip(const std::byte* source, std::uint64_t length) noexcept { checksum_.update(source, length); }
  // After the last byte: all that was copied is there.
  [[nodiscard]] Checksum finish() noexcept;

 private:
  CopyMethod method_;
  PayloadChecksum checksum_;
};

// Which stores pay for a batch of this many bytes (measured; see bench/micro/copy).
[[nodiscard]] Stores stores_for(std::uint64_t batch_bytes) noexcept;
// What Stores::kStreaming is on this machine: "avx2", or "memcpy" where there are no non-temporal stores to use.
[[nodiscard]] const char* streaming_variant() noexcept;

}  // namespace kvtier
