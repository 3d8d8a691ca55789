// Numbers of llama.cpp's sequence state files, as llama_state_seq_save_file writes them. Little endian. Facts only; any
// thread.
#pragma once

#include <cstdint>

namespace kvtier::llama {

inline constexpr std::uint32_t kMagic = 0x67677371;  // 'ggsq'
// Plain caches lie the same in both. What comes later is refused until somebody has looked at it.
inline constexpr std::uint32_t kOldestVersion = 2;
inline constexpr std::uint32_t kNewestVersion = 3;

// A cell of attention in an image of one sequence. Cells with more, as of M-RoPE, are refused.
struct Cell {
  std::int32_t position;
  std::uint32_t sequence_count;  // 1
  std::int32_t sequence;
};
static_assert(sizeof(Cell) == 12);

// The largest position that a cell can have.
inline constexpr std::uint32_t kMaxPosition = 0x7fffffff;

}  // namespace kvtier::llama
