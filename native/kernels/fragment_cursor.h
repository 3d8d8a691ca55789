// Walks the bytes of one slot in canonical order, run by run. Borrows the view. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/check.h"
#include "kernels/copy_block.h"

namespace kvtier {

class FragmentCursor {
 public:
  FragmentCursor(const SlotView& view, std::uint32_t slot) noexcept
      : regions_(view.regions), next_(view.layout->fragments().data()), end_(next_ + view.layout->fragments().size()) {
    KVTIER_CHECK(slot < view.layout->slot_count());
    slot_ = slot;
    enter();
  }

  // The bytes at the cursor and how many of them lie in a row; 0 at the end of the slot.
  [[nodiscard]] std::byte* at() const noexcept { return at_; }
  [[nodiscard]] std::uint64_t run() const noexcept { return run_; }

  // At most run() bytes.
  void advance(std::uint64_t length) noexcept {
    at_ += length;
    run_ -= length;
    if (run_ == 0) enter();
  }

 private:
  void enter() noexcept {
    if (next_ == end_) return;
    at_ = regions_[next_->region] + next_->offset + slot_ * next_->step;
    run_ = next_->length;
    ++next_;
  }

  std::byte* const* regions_;
  const Fragment* next_;
  const Fragment* end_;
  std::uint32_t slot_ = 0;
  std::byte* at_ = nullptr;
  std::uint64_t run_ = 0;
};

}  // namespace kvtier
