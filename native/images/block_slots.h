// Slots of host memory as blocks of an image: where each begins, and whether they are as large as a section's blocks.
// Borrows the storage. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "digest/sequence_hash.h"
#include "images/image_shape.h"
#include "storage/storage.h"

namespace kvtier {

class BlockSlots {
 public:
  // Fails with kInvalidValue where the storage is not contiguous host memory of its own, kLayoutMismatch where its
  // blocks are not as large as the section's.
  [[nodiscard]] static Result<BlockSlots> make(const Storage& storage, const SectionShape& section);

  // Of a recurrent state 1.
  [[nodiscard]] std::uint32_t tokens_per_block() const noexcept { return tokens_per_block_; }
  [[nodiscard]] std::byte* at(std::uint32_t slot) const noexcept { return base_ + step_ * slot; }
  // Fails with kSlotOutOfRange, kSlotRepeated.
  [[nodiscard]] Status check(std::span<const std::uint32_t> slots) const;

 private:
  BlockSlots() = default;
  std::byte* base_ = nullptr;
  std::uint64_t step_ = 0;
  std::uint32_t slot_count_ = 0;
  std::uint32_t tokens_per_block_ = 0;
};

// The blocks of one section of an image that is written.
struct BlockSource {
  const Storage* storage = nullptr;
  std::uint32_t first_block = 0;  // recurrent: 0
  std::span<const std::uint32_t> slots;
  std::span<const SequenceHash> hashes;  // one a slot
};

}  // namespace kvtier
