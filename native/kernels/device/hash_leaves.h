// The body of the hashing kernel, for a GPU and for the simulated driver's host form: a warp hashes a leaf. `Lanes` are
// the warp's threads: each() runs one on a GPU and all, one after the other, on a host; PerLane<T> is a value that each
// of them has; add_over() gives every lane the sum over the lanes whose numbers differ from its own in a mask's bits
// alone. A kernel's thread.
#pragma once

#include "digest/payload_checksum.h"
#include "digest/xxh3_steps.h"
#include "kernels/device/device_ptr.h"
#include "kernels/device/launch.h"

namespace kvtier::device {

// Two words of a stripe, of its secret, or the two accumulators that they go to: what a lane takes at a time. Lane l
// has the words 2 * (l % 4) and the next, of the stripes l / 4 and l / 4 + 8 of a block of 16.
struct WordPair {
  std::uint64_t first;
  std::uint64_t second;
};

inline constexpr std::uint32_t kPairBytes = 16;
inline constexpr std::uint32_t kPairsOfStripe = 4;
inline constexpr std::uint32_t kStripesAtOnce = 8;
inline constexpr std::uint32_t kStripeBytes = 64;
inline constexpr std::uint32_t kStripesOfBlock = 16;
inline constexpr std::uint32_t kBlockBytes = kStripesOfBlock * kStripeBytes;
// Blocks that are read before the first of them is used. Odd sizes are rare: their code is kept small.
template <unsigned kUnitBytes>
inline constexpr std::uint32_t kBlocksInFlight = kUnitBytes == kPairBytes ? 4 : 1;
inline constexpr std::uint32_t kMostBlocksInFlight = 4;
inline constexpr std::uint32_t kOverPairs = 3;     // lanes that differ in the pair they have
inline constexpr std::uint32_t kOverStripes = 28;  // lanes that differ in the stripe they have
static_assert(kStripeBytes == xxh3::kStripeBytes && kStripesOfBlock == xxh3::kStripesPerBlock);
static_assert(kPairsOfStripe * kStripesAtOnce == kWarpLanes && kPairsOfStripe * kPairBytes == kStripeBytes);

template <unsigned kUnitBytes>
[[nodiscard]] KVTIER_DEVICE WordPair load_pair(const std::uint8_t* from) {
  if constexpr (kUnitBytes == kPairBytes) {
#if defined(__CUDACC__)
    const ulonglong2 words = __ldg(reinterpret_cast<const ulonglong2*>(from));
    return {words.x, words.y};
#endif
  }
  return {xxh3::read_64(from), xxh3::read_64(from + 8)};
}

// Words of the secret that a seed makes, from any offset.
[[nodiscard]] KVTIER_DEVICE std::uint64_t seeded_secret_64(std::uint32_t offset, std::uint64_t seed) {
  const auto word = [seed](std::uint32_t index) {
    return xxh3::kDefaultSecretWords[index] + (index % 2 == 0 ? seed : std::uint64_t{0} - seed);
  };
  const std::uint32_t bits = offset % 8 * 8;
  const std::uint64_t low = word(offset / 8);
  return bits == 0 ? low : low >> bits | word(offset / 8 + 1) << (64 - bits);
}
[[nodiscard]] KVTIER_DEVICE WordPair seeded_secret(std::uint32_t offset, std::uint64_t seed) {
  return {seeded_secret_64(offset, seed), seeded_secret_64(offset + 8, seed)};
}

KVTIER_DEVICE void add_pair(WordPair& sums, const WordPair& words, const WordPair& secret) {
  sums.first += words.second + xxh3::multiply_halves(words.first ^ secret.first);
  sums.second += words.first + xxh3::multiply_halves(words.second ^ secret.second);
}

// What a lane keeps while a leaf is hashed.
struct LaneState {
  WordPair accumulators;
  WordPair early_secret;  // for stripes 0 to 7 of a block
  WordPair late_secret;   // for stripes 8 to 15
  WordPair scramble_secret;
  WordPair held[2 * kMostBlocksInFlight];
};
template <typename Lanes>
using LaneStates = typename Lanes::template PerLane<LaneState>;

KVTIER_DEVICE void begin_leaf(LaneState& state, std::uint32_t lane, std::uint64_t seed) {
  const std::uint32_t pair = lane % kPairsOfStripe * kPairBytes;
  const std::uint32_t stripe = lane / kPairsOfStripe;
  state.accumulators = {xxh3::kInitialAccumulators[pair / 8], xxh3::kInitialAccumulators[pair / 8 + 1]};
  state.early_secret = seeded_secret(8 * stripe + pair, seed);
  state.late_secret = seeded_secret(8 * (stripe + kStripesAtOnce) + pair, seed);
  state.scramble_secret = seeded_secret(xxh3::kScrambleSecret + pair, seed);
}

// One block of 16 stripes, the lanes' shares of which are held at `held`: into the accumulators, which it scrambles.
template <typename Lanes>
KVTIER_DEVICE void add_block(LaneStates<Lanes>& states, std::uint32_t held, const Lanes& lanes) {
  typename Lanes::template PerLane<WordPair> sums;
  lanes.each([&](std::uint32_t lane) {
    const LaneState& state = states[lane];
    sums[lane] = {0, 0};
    add_pair(sums[lane], state.held[held], state.early_secret);
    add_pair(sums[lane], state.held[held + 1], state.late_secret);
  });
  lanes.template add_over<kOverStripes>(sums);
  lanes.each([&](std::uint32_t lane) {
    LaneState& state = states[lane];
    WordPair& into = state.accumulators;
    into = {xxh3::scramble_word(into.first + sums[lane].first, state.scramble_secret.first),
            xxh3::scramble_word(into.second + sums[lane].second, state.scramble_secret.second)};
  });
}

// So many blocks one after the other, for each needs the accumulators of the one before; but all are read first.
template <unsigned kUnitBytes, std::uint32_t kBlocks, typename Lanes>
KVTIER_DEVICE void add_blocks(LaneStates<Lanes>& states, const std::uint8_t* data, const Lanes& lanes) {
  static_assert(kBlocks <= kMostBlocksInFlight);
  lanes.each([&](std::uint32_t lane) {
    KVTIER_UNROLL
    for (std::uint32_t half = 0; half < 2 * kBlocks; ++half) {
      states[lane].held[half] = load_pair<kUnitBytes>(data + half * (kBlockBytes / 2) + lane * kPairBytes);
    }
  });
  KVTIER_UNROLL
  for (std::uint32_t block = 0; block < kBlocks; ++block) add_block(states, 2 * block, lanes);
}

// The stripes after the last whole block, and the leaf's last 64 bytes, which go in once more with a secret of their
// own.
template <unsigned kUnitBytes, typename Lanes>
KVTIER_DEVICE void add_end(LaneStates<Lanes>& states, const std::uint8_t* data, std::uint32_t length,
                           std::uint64_t seed, const Lanes& lanes) {
  const std::uint32_t stripes = (length - 1) / kStripeBytes;
  const std::uint32_t left = stripes % kStripesOfBlock;
  const std::uint8_t* const from = data + (stripes - left) * kStripeBytes;
  const std::uint8_t* const last = data + length - kStripeBytes;
  typename Lanes::template PerLane<WordPair> sums;
  lanes.each([&](std::uint32_t lane) {
    const std::uint32_t at = lane * kPairBytes;
    const std::uint32_t stripe = lane / kPairsOfStripe;
    sums[lane] = {0, 0};
    if (stripe < left) add_pair(sums[lane], load_pair<kUnitBytes>(from + at), states[lane].early_secret);
    if (stripe + kStripesAtOnce < left) {
      add_pair(sums[lane], load_pair<kUnitBytes>(from + kBlockBytes / 2 + at), states[lane].late_secret);
    }
    if (stripe == 0) {
      add_pair(sums[lane], load_pair<kUnitBytes>(last + at), seeded_secret(xxh3::kLastStripeSecret + at, seed));
    }
  });
  lanes.template add_over<kOverStripes>(sums);
  lanes.each([&](std::uint32_t lane) {
    states[lane].accumulators.first += sums[lane].first;
    states[lane].accumulators.second += sums[lane].second;
  });
}

// A leaf of more than xxh3::kShortBytes bytes.
template <unsigned kUnitBytes, typename Lanes>
KVTIER_DEVICE void hash_long_leaf(const std::uint8_t* data, std::uint32_t length, std::uint64_t seed,
                                  std::uint64_t* result, const Lanes& lanes) {
  LaneStates<Lanes> states;
  lanes.each([&](std::uint32_t lane) { begin_leaf(states[lane], lane, seed); });
  constexpr std::uint32_t kAtOnce = kBlocksInFlight<kUnitBytes>;
  const std::uint32_t blocks = (length - 1) / kBlockBytes;
  std::uint32_t block = 0;
  KVTIER_ROLLED
  for (; block + kAtOnce <= blocks; block += kAtOnce) {
    add_blocks<kUnitBytes, kAtOnce>(states, data + block * kBlockBytes, lanes);
  }
  KVTIER_ROLLED
  for (; block < blocks; ++block) add_blocks<kUnitBytes, 1>(states, data + block * kBlockBytes, lanes);
  add_end<kUnitBytes>(states, data, length, seed, lanes);
  typename Lanes::template PerLane<std::uint64_t> sums;
  lanes.each([&](std::uint32_t lane) {
    const std::uint32_t pair = lane % kPairsOfStripe * kPairBytes;
    const WordPair secret = seeded_secret(xxh3::kMergeSecretLow + pair, seed);
    const WordPair& accumulators = states[lane].accumulators;
    sums[lane] = xxh3::multiply_fold(accumulators.first ^ secret.first, accumulators.second ^ secret.second);
  });
  lanes.template add_over<kOverPairs>(sums);
  lanes.each([&](std::uint32_t lane) {
    if (lane == 0) *result = xxh3::avalanche(length * xxh3::kPrime64_1 + sums[lane]);
  });
}

template <unsigned kUnitBytes, typename Lanes>
KVTIER_DEVICE void hash_leaf(const HashedPayload& payload, std::uint32_t leaf, const Lanes& lanes) {
  const std::uint64_t offset = std::uint64_t{leaf % payload.leaves_of_part} * kLeafBytes;
  const std::uint64_t left = payload.part_bytes - offset;
  const std::uint32_t length = static_cast<std::uint32_t>(left < kLeafBytes ? left : kLeafBytes);
  const std::uint64_t part = payload.part_bytes * (leaf / payload.leaves_of_part);
  const auto* const data = device_ptr<const std::uint8_t, kUnitBytes>(payload.payload + part + offset, length);
  auto* const result = device_ptr<std::uint64_t, 8>(payload.result + std::uint64_t{leaf} * 8, 8);
  if (length > xxh3::kShortBytes) {
    hash_long_leaf<kUnitBytes>(data, length, payload.seed, result, lanes);
    return;
  }
  lanes.each([&](std::uint32_t lane) {
    if (lane == 0) *result = xxh3::hash_short(data, length, payload.seed);
  });
}

// The leaves `first`, `first` + `stride` and so on of a launch.
template <unsigned kUnitBytes, typename Lanes>
KVTIER_DEVICE void hash_leaves(const HashLaunch& launch, std::uint32_t first, std::uint32_t stride,
                               const Lanes& lanes) {
  std::uint32_t index = 0;
  for (std::uint32_t leaf = first; leaf < launch.leaves; leaf += stride) {
    while (leaf >= launch.payload[index].end) ++index;
    const std::uint32_t before = index == 0 ? 0 : launch.payload[index - 1].end;
    hash_leaf<kUnitBytes>(launch.payload[index], leaf - before, lanes);
  }
}

}  // namespace kvtier::device
