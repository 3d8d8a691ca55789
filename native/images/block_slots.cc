#include "images/block_slots.h"

#include <algorithm>
#include <string>

#include "core/try_reserve.h"

namespace kvtier {

Result<BlockSlots> BlockSlots::make(const Storage& storage, const SectionShape& section) {
  const StorageInfo& info = storage.info();
  const SlotView view = storage.view();
  if (!info.host_addressable || info.borrowed || !info.keeps_checksums ||
      view.layout->kind() != LayoutKind::kContiguous) {
    return Status(Code::kInvalidValue,
                  "blocks of images lie in contiguous host memory of kvtier's own; the storage "
                  "that was named is something else");
  }
  const bool recurrent = section.kind == SectionKind::kRecurrent;
  const std::uint32_t tokens = recurrent ? 1 : info.shape.tokens_per_block;
  const std::uint64_t needed = section.bytes_per_token() * tokens;
  if (info.shape.block_bytes() != needed) {
    return Status(Code::kLayoutMismatch, "a block of the image's " + std::string(name_of(section.kind)) +
                                             " section has " + std::to_string(section.bytes_per_token()) +
                                             " bytes times " + std::to_string(tokens) + "; a slot holds " +
                                             describe(info.shape));
  }
  const Fragment& whole = view.layout->fragments().front();
  BlockSlots slots;
  slots.base_ = view.regions[whole.region] + whole.offset;
  slots.step_ = whole.step;
  slots.slot_count_ = info.slot_count;
  slots.tokens_per_block_ = tokens;
  return slots;
}

Status BlockSlots::check(std::span<const std::uint32_t> slots) const {
  std::vector<std::uint32_t> sorted;
  if (Status status = try_reserve(sorted, slots.size()); !status.is_ok()) return status;
  sorted.assign(slots.begin(), slots.end());
  std::ranges::sort(sorted);
  if (!sorted.empty() && sorted.back() >= slot_count_) {
    return Status(Code::kSlotOutOfRange, "slot " + std::to_string(sorted.back()) + " was asked for; the storage has " +
                                             std::to_string(slot_count_) + " slots");
  }
  const auto twice = std::ranges::adjacent_find(sorted);
  if (twice != sorted.end()) {
    return Status(Code::kSlotRepeated, "slot " + std::to_string(*twice) + " is named twice");
  }
  return Status::ok();
}

}  // namespace kvtier
