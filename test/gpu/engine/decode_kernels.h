// The bodies of the engine's kernels, for a GPU and for the simulated driver's host forms: what one thread does for one
// item. Attention over paged keys and values, in whole numbers modulo 2^32, so that the order of additions cannot show:
// outputs are the same to the bit wherever the blocks lie. A kernel's thread.
#pragma once

#include "gpu/engine/decode_launch.h"
#include "kernels/device/device_ptr.h"

namespace kvtier::engine {

using device::device_ptr;

inline constexpr std::uint32_t kWordBytes = 4;

// Every bit of the result depends on every bit of both.
KVTIER_DEVICE std::uint32_t mix(std::uint32_t a, std::uint32_t b) {
  std::uint32_t x = a * 0x9E3779B1U + (b ^ 0x85EBCA77U) * 0xC2B2AE3DU;
  x = (x ^ (x >> 15)) * 0x2C1B3C6DU;
  x = (x ^ (x >> 12)) * 0x297A2D39U;
  return x ^ (x >> 15);
}

KVTIER_DEVICE std::uint32_t* hidden_row(const DecodeLaunch& launch, std::uint32_t token) {
  const std::uint32_t bytes = launch.width * kWordBytes;
  return device_ptr<std::uint32_t, kWordBytes>(launch.hidden + std::uint64_t{token} * bytes, bytes);
}

// The key or the value of a position, wherever its block is.
KVTIER_DEVICE std::uint32_t* cached_row(const DecodeLaunch& launch, std::uint64_t base, std::uint32_t position) {
  const std::uint32_t bytes = launch.width * kWordBytes;
  const std::uint32_t block = position / launch.block_tokens;
  const std::uint32_t slot =
      *device_ptr<const std::uint32_t, kWordBytes>(launch.slots + std::uint64_t{block} * kWordBytes, kWordBytes);
  const std::uint64_t in_block = std::uint64_t{position % launch.block_tokens} * bytes;
  return device_ptr<std::uint32_t, kWordBytes>(base + slot * launch.slot_step + in_block, bytes);
}

// What the first layer gets of a token. An item: a word of a token.
struct Embed {
  KVTIER_DEVICE static std::uint32_t items(const DecodeLaunch& launch) { return launch.count * launch.width; }
  KVTIER_DEVICE static void run(const DecodeLaunch& launch, std::uint32_t item) {
    const std::uint32_t token = item / launch.width;
    const std::uint32_t word = item % launch.width;
    const std::uint32_t id =
        *device_ptr<const std::uint32_t, kWordBytes>(launch.tokens + std::uint64_t{token} * kWordBytes, kWordBytes);
    hidden_row(launch, token)[word] = mix(mix(id, launch.start + token), word);
  }
};

// Writes the token's key and value into its block's slot. An item: a word of a token.
struct Append {
  KVTIER_DEVICE static std::uint32_t items(const DecodeLaunch& launch) { return launch.count * launch.width; }
  KVTIER_DEVICE static void run(const DecodeLaunch& launch, std::uint32_t item) {
    const std::uint32_t token = item / launch.width;
    const std::uint32_t word = item % launch.width;
    const std::uint32_t of_token = mix(hidden_row(launch, token)[word], launch.layer);
    cached_row(launch, launch.keys, launch.start + token)[word] = mix(of_token, 1);
    cached_row(launch, launch.values, launch.start + token)[word] = mix(of_token, 2);
  }
};

// How much a token attends to a position up to its own. An item: a token and a position.
struct Score {
  KVTIER_DEVICE static std::uint32_t items(const DecodeLaunch& launch) { return launch.count * launch.positions; }
  KVTIER_DEVICE static void run(const DecodeLaunch& launch, std::uint32_t item) {
    const std::uint32_t token = item / launch.positions;
    const std::uint32_t position = item % launch.positions;
    if (position > launch.start + token) return;
    const std::uint32_t* const query = hidden_row(launch, token);
    const std::uint32_t* const key = cached_row(launch, launch.keys, position);
    std::uint32_t sum = 0;
    for (std::uint32_t word = 0; word < launch.width; ++word) sum += query[word] * key[word];
    // With the position in it, blocks that changed places show.
    *device_ptr<std::uint32_t, kWordBytes>(launch.scores + std::uint64_t{item} * kWordBytes, kWordBytes) =
        mix(sum, position);
  }
};

// The weighted sum of values, added to what the next layer gets. An item: a word of a token.
struct Attend {
  KVTIER_DEVICE static std::uint32_t items(const DecodeLaunch& launch) { return launch.count * launch.width; }
  KVTIER_DEVICE static void run(const DecodeLaunch& launch, std::uint32_t item) {
    const std::uint32_t token = item / launch.width;
    const std::uint32_t word = item % launch.width;
    const std::uint32_t seen = launch.start + token + 1;
    const std::uint64_t row = launch.scores + std::uint64_t{token} * launch.positions * kWordBytes;
    const std::uint32_t* const scores = device_ptr<const std::uint32_t, kWordBytes>(row, seen * kWordBytes);
    std::uint32_t sum = 0;
    for (std::uint32_t position = 0; position < seen; ++position) {
      sum += scores[position] * cached_row(launch, launch.values, position)[word];
    }
    std::uint32_t& hidden = hidden_row(launch, token)[word];
    hidden = mix(hidden ^ sum, launch.layer);
  }
};

// 64 bits of what the last layer made of a token. An item: a token.
struct Digest {
  KVTIER_DEVICE static std::uint32_t items(const DecodeLaunch& launch) { return launch.count; }
  KVTIER_DEVICE static void run(const DecodeLaunch& launch, std::uint32_t item) {
    const std::uint32_t* const hidden = hidden_row(launch, item);
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    for (std::uint32_t word = 0; word < launch.width; ++word) {
      low = mix(low, hidden[word]);
      high = mix(hidden[word], high);
    }
    *device_ptr<std::uint64_t, 8>(launch.results + std::uint64_t{item} * 8, 8) = std::uint64_t{high} << 32 | low;
  }
};

// Columns: the body and the kernel's name.
#define KVTIER_ENGINE_KERNELS(X)  \
  X(Embed, kvtier_engine_embed)   \
  X(Append, kvtier_engine_append) \
  X(Score, kvtier_engine_score)   \
  X(Attend, kvtier_engine_attend) \
  X(Digest, kvtier_engine_digest)

}  // namespace kvtier::engine
