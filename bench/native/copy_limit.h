// What memory can do: glibc's memcpy between a contiguous block and its fragments, over memory like that of the tiers
// (2 MiB aligned, huge pages, touched). One thread at a time; a run makes threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "clock.h"
#include "core/status.h"
#include "memory/host_buffer.h"

namespace limits {

enum class Way : std::uint8_t { kGather, kScatter };  // from the fragments to the block, or back

class CopyLimit {
 public:
  // A block is `fragment_count` fragments, each in a region of its own; `block_count` blocks lie beside each other.
  [[nodiscard]] static kvtier::Result<std::unique_ptr<CopyLimit>> make(std::size_t fragment_bytes,
                                                                       std::size_t fragment_count,
                                                                       std::size_t block_count);

  // Copies every block once by memcpy.
  [[nodiscard]] Elapsed run(unsigned thread_count, Way way);
  // The same by kvtier's kernel that copies and makes the checksum, on one thread: the kernel without an engine.
  [[nodiscard]] Elapsed run_checked_kernel();

 private:
  CopyLimit() = default;
  std::size_t fragment_bytes_ = 0;
  std::size_t fragment_count_ = 0;
  std::size_t block_count_ = 0;
  kvtier::HostBuffer fragments_;
  kvtier::HostBuffer blocks_;
};

}  // namespace limits
