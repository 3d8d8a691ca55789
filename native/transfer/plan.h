// Cuts a transfer into the operations that engine threads run: runs of consecutive slab slots, or groups of memory
// copies. Pure arithmetic; it knows sizes and slot numbers, not storages. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "transfer/path.h"

namespace kvtier {

// "No slot": in a move's via, use a staging buffer.
inline constexpr std::uint32_t kNoSlot = 0xffffffff;

// One block's way: the slot it comes from, the slot it passes, the slot it ends in.
struct Move {
  std::uint32_t source = 0;
  std::uint32_t via = kNoSlot;
  std::uint32_t target = 0;
};

// One disk operation moves at most this much, or one block: enough to saturate a disk, little enough to stay fair.
inline constexpr std::uint64_t kRunBytes = std::uint64_t{2} << 20;
// One memory operation copies at most this much, or one block: two threads then share most batches.
inline constexpr std::uint64_t kCopyBytes = std::uint64_t{1} << 20;
// Of copies that a GPU makes: away from it, so that checksums of one operation are made while the next is copied, and
// towards it.
inline constexpr std::uint64_t kFromDeviceBytes = std::uint64_t{4} << 20;
inline constexpr std::uint64_t kToDeviceBytes = std::uint64_t{16} << 20;

struct PlannedOp {
  std::uint32_t first = 0;  // position in Plan::order
  std::uint32_t count = 0;  // blocks
  std::uint64_t bytes = 0;  // what the operation counts against the bytes in flight
};

struct Plan {
  // The moves' indices in the order in which the operations take them.
  std::vector<std::uint32_t> order;
  // Each covers order[first, first + count); together they cover every move once, in order.
  std::vector<PlannedOp> ops;
};

// How many blocks of a stride one disk operation may have; also the blocks that a staging buffer must hold.
[[nodiscard]] constexpr std::uint32_t run_blocks(std::uint64_t stride) noexcept {
  return stride >= kRunBytes ? 1 : static_cast<std::uint32_t>(kRunBytes / stride);
}

// Precondition: block_bytes <= stride, stride is not 0. An operation that is not the disk's has `copy_bytes` at most,
// or one block. Disk paths: an operation's slab slots are consecutive, and the operation that holds the caller's
// earliest block comes first. Other paths keep the caller's order.
[[nodiscard]] Plan plan_transfer(TransferPath path, std::uint64_t block_bytes, std::uint64_t stride,
                                 std::span<const Move> moves, std::uint64_t copy_bytes = kCopyBytes);

}  // namespace kvtier
