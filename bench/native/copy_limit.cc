#include "copy_limit.h"

#include <cstring>
#include <utility>
#include <vector>

#include "kernels/copy_block.h"
#include "layout/slot_layout.h"
#include "team.h"

namespace limits {

using kvtier::Result;

Result<std::unique_ptr<CopyLimit>> CopyLimit::make(std::size_t fragment_bytes, std::size_t fragment_count,
                                                   std::size_t block_count) {
  const std::size_t bytes = fragment_bytes * fragment_count * block_count;
  auto fragments = kvtier::HostBuffer::allocate(bytes);
  if (!fragments.is_ok()) return fragments.status();
  auto blocks = kvtier::HostBuffer::allocate(bytes);
  if (!blocks.is_ok()) return blocks.status();
  std::unique_ptr<CopyLimit> limit(new CopyLimit());
  limit->fragment_bytes_ = fragment_bytes;
  limit->fragment_count_ = fragment_count;
  limit->block_count_ = block_count;
  limit->fragments_ = std::move(fragments).value();
  limit->blocks_ = std::move(blocks).value();
  // A page that was only ever read as zeros may be one page of the hypervisor.
  std::memset(limit->fragments_.data(), 1, bytes);
  std::memset(limit->blocks_.data(), 2, bytes);
  return limit;
}

Elapsed CopyLimit::run(unsigned thread_count, Way way) {
  return run_team(thread_count, block_count_, [this, way](unsigned, std::size_t block) {
    std::byte* whole = blocks_.data() + block * fragment_count_ * fragment_bytes_;
    for (std::size_t i = 0; i < fragment_count_; ++i) {
      std::byte* fragment = fragments_.data() + (i * block_count_ + block) * fragment_bytes_;
      std::byte* piece = whole + i * fragment_bytes_;
      switch (way) {
        case Way::kGather:
          std::memcpy(piece, fragment, fragment_bytes_);
          break;
        case Way::kScatter:
          std::memcpy(fragment, piece, fragment_bytes_);
          break;
      }
    }
  });
}

Elapsed CopyLimit::run_checked_kernel() {
  const kvtier::GroupShape shape{.parts = 1,
                                 .layers = static_cast<std::uint32_t>(fragment_count_),
                                 .outer = 1,
                                 .tokens_per_block = 1,
                                 .bytes_per_token = static_cast<std::uint32_t>(fragment_bytes_)};
  const auto slots = static_cast<std::uint32_t>(block_count_);
  const auto layers = kvtier::SlotLayout::make(kvtier::LayoutKind::kLayersKvInner, shape, slots);
  const auto whole = kvtier::SlotLayout::make(kvtier::LayoutKind::kContiguous, shape, slots);
  KVTIER_CHECK(layers.is_ok() && whole.is_ok());
  std::vector<std::byte*> regions;
  for (std::size_t i = 0; i < fragment_count_; ++i) {
    regions.push_back(fragments_.data() + i * block_count_ * fragment_bytes_);
  }
  std::byte* const target = blocks_.data();
  const kvtier::SlotView from{&layers.value(), regions.data()};
  const kvtier::SlotView to{&whole.value(), &target};
  const kvtier::Stores stores = kvtier::stores_for(shape.block_bytes() * block_count_);
  return run_team(1, block_count_, [&](unsigned, std::size_t block) {
    const auto slot = static_cast<std::uint32_t>(block);
    (void)kvtier::copy_block_checked(from, slot, to, slot, stores, block);
  });
}

}  // namespace limits
