// What the engine's kernels are given: one structure, by value, for all of them. Plain data. Any thread.
#pragma once

#include <cstdint>

namespace kvtier::engine {

inline constexpr unsigned kThreads = 64;  // of a thread block

// A few tokens of one sequence, in one layer. Addresses are of device memory; a word has 4 bytes.
struct DecodeLaunch {
  std::uint64_t hidden = 0;     // `width` words a token: what the layers hand on
  std::uint64_t scores = 0;     // `positions` words a token
  std::uint64_t tokens = 0;     // a word a token
  std::uint64_t slots = 0;      // the block table: a word a block of the sequence
  std::uint64_t results = 0;    // 8 bytes a token
  std::uint64_t keys = 0;       // of slot 0, in this layer
  std::uint64_t values = 0;     // likewise
  std::uint64_t slot_step = 0;  // from a slot to the next, in bytes
  std::uint32_t width = 0;
  std::uint32_t count = 0;      // tokens
  std::uint32_t start = 0;      // position of the first one
  std::uint32_t positions = 0;  // start + count
  std::uint32_t block_tokens = 0;
  std::uint32_t layer = 0;
};

}  // namespace kvtier::engine
