// Which loads from a disk go to a GPU directly, and which through host memory: what follows from measured figures.
// Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kvtier {

// The loads that are measured and chosen for, each by itself. What an operation reads lies in one piece on the disk.
enum class DirectLoad : std::uint8_t {
  kBlock,      // one block
  kRun,        // as many blocks as an operation may have, into one piece of device memory
  kScattered,  // as many, each into a place of its own
};
inline constexpr std::size_t kDirectLoadCount = 3;

// The kind of load that an operation is like: `pieces` of device memory receive its `blocks`; the largest operation has
// `most_blocks`. Precondition: 1 <= pieces <= blocks.
[[nodiscard]] DirectLoad direct_load_of(std::uint32_t blocks, std::uint32_t pieces, std::uint32_t most_blocks) noexcept;

// By DirectLoad: whether loads of that kind go directly.
using DirectChoice = std::array<bool, kDirectLoadCount>;
inline constexpr DirectChoice kAlwaysDirect{true, true, true};
inline constexpr DirectChoice kNeverDirect{false, false, false};

struct DirectFigure {
  double direct_gigabytes_per_second = 0;  // 1e9 bytes, with verification; 0: not measured
  double staged_gigabytes_per_second = 0;  // the same through host memory

  [[nodiscard]] bool is_measured() const noexcept {
    return direct_gigabytes_per_second > 0 && staged_gigabytes_per_second > 0;
  }
};

struct DirectFigures {
  std::uint64_t block_bytes = 0;  // of a block and of the two other loads, as they were measured
  std::uint64_t run_bytes = 0;
  std::array<DirectFigure, kDirectLoadCount> loads{};  // by DirectLoad
};

// Direct where it is faster or at most 3 % slower, for it costs the CPU nothing; not where it was not measured.
[[nodiscard]] DirectChoice choose_direct(const DirectFigures& figures) noexcept;

// Why some loads do not go directly, with both figures of each, for a person; empty where all do.
[[nodiscard]] std::string why_staged(const DirectFigures& figures);

}  // namespace kvtier
