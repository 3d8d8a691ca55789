// Cuts copies and hashings into launches, as many as their parameters need. Pure arithmetic over addresses; nothing is
// dereferenced. Made, used and gone within a call: one thread.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device/device_kernels.h"
#include "kernels/device/launch.h"

namespace kvtier {

class CopyLaunches {
 public:
  // Borrows the copy. Precondition: a fragment has at least one byte, and fewer than 2^38.
  explicit CopyLaunches(const SlotCopy& copy) noexcept;

  // What a thread moves at a time: 16, 8, 4 or 1.
  [[nodiscard]] unsigned unit_bytes() const noexcept { return unit_bytes_; }
  // The next launch; false when there is none.
  [[nodiscard]] bool next(device::CopyLaunch& launch) noexcept;

 private:
  void choose_chunks() noexcept;

  const SlotCopy& copy_;
  unsigned unit_bytes_ = 1;
  std::uint32_t lanes_ = 1;
  std::uint32_t pieces_ = 1;       // of a run
  std::uint64_t fragments_ = 0;    // of a launch
  std::uint64_t slots_ = 0;        // of a launch
  std::uint64_t at_fragment_ = 0;  // where the next launch begins
  std::uint64_t at_slot_ = 0;
};

// How many thread blocks a launch gets: as many as have something to copy, and `max_blocks` at most.
[[nodiscard]] unsigned blocks_of(const device::CopyLaunch& launch, unsigned max_blocks) noexcept;

class HashLaunches {
 public:
  // Borrows the payloads. Precondition: what LeafHashes says.
  explicit HashLaunches(std::span<const LeafHashes> payloads) noexcept : payloads_(payloads) {}

  // The next launch; false when there is none.
  [[nodiscard]] bool next(device::HashLaunch& launch) noexcept;
  // What a thread reads at a time in the launch that next() made: 16 or 1.
  [[nodiscard]] unsigned unit_bytes() const noexcept { return unit_bytes_; }

 private:
  std::span<const LeafHashes> payloads_;  // those that are left
  unsigned unit_bytes_ = 16;
};

}  // namespace kvtier
