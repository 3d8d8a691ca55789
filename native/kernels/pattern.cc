#include "kernels/pattern.h"

#include <algorithm>
#include <cstring>

#include "kernels/fragment_cursor.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr std::uint64_t kIndexStep = 0x9E3779B97F4A7C15;  // odd: neighbouring words start far apart
constexpr std::uint64_t kMultiplier = 0xD6E8FEB86659FD93;

constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x ^= x >> 32;
  x *= kMultiplier;
  return x ^ (x >> 32);
}

// Every bit of the hash counts.
std::uint64_t seed_of_pattern(const SequenceHash& hash) noexcept {
  std::uint64_t seed = 0;
  for (std::size_t at = 0; at < hash.size(); at += kWordBytes) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < kWordBytes; ++i) word |= std::uint64_t{hash[at + i]} << (8 * i);
    seed = mix(seed * kIndexStep + word + 1);
  }
  return seed;
}

// The eight bytes at canonical offset 8 * index. A layer, K or V is a range of canonical offsets, so the index names
// them.
std::uint64_t word_at(std::uint64_t seed, std::uint64_t index) noexcept {
  return mix(seed + index * kIndexStep);
}

// Calls `whole(bytes, first word, words)` for runs of whole words and `partial(bytes, word, first byte, bytes)` for the
// rest of a run that starts at canonical offset `offset`.
template <typename Whole, typename Partial>
void for_each_word(std::byte* bytes, std::uint64_t offset, std::uint64_t length, Whole whole, Partial partial) {
  if (const std::uint64_t skip = offset % kWordBytes; skip != 0) {
    const std::uint64_t head = std::min(length, kWordBytes - skip);
    partial(bytes, offset / kWordBytes, skip, head);
    bytes += head;
    offset += head;
    length -= head;
  }
  const std::uint64_t words = length / kWordBytes;
  whole(bytes, offset / kWordBytes, words);
  if (const std::uint64_t tail = length % kWordBytes; tail != 0) {
    partial(bytes + words * kWordBytes, offset / kWordBytes + words, 0, tail);
  }
}

}  // namespace

void fill_pattern(const SlotView& target, std::uint32_t slot, const SequenceHash& hash) noexcept {
  const std::uint64_t seed = seed_of_pattern(hash);
  const auto whole = [seed](std::byte* bytes, std::uint64_t first, std::uint64_t words) {
    for (std::uint64_t i = 0; i < words; ++i) {
      const std::uint64_t word = word_at(seed, first + i);
      std::memcpy(bytes + i * kWordBytes, &word, kWordBytes);
    }
  };
  const auto partial = [seed](std::byte* bytes, std::uint64_t index, std::uint64_t first, std::uint64_t length) {
    const std::uint64_t word = word_at(seed, index);
    std::memcpy(bytes, reinterpret_cast<const std::byte*>(&word) + first, length);
  };
  std::uint64_t offset = 0;
  for (FragmentCursor cursor(target, slot); cursor.run() != 0; cursor.advance(cursor.run())) {
    for_each_word(cursor.at(), offset, cursor.run(), whole, partial);
    offset += cursor.run();
  }
}

bool check_pattern(const SlotView& source, std::uint32_t slot, const SequenceHash& hash) noexcept {
  const std::uint64_t seed = seed_of_pattern(hash);
  std::uint64_t difference = 0;
  const auto whole = [seed, &difference](const std::byte* bytes, std::uint64_t first, std::uint64_t words) {
    for (std::uint64_t i = 0; i < words; ++i) {
      std::uint64_t held = 0;
      std::memcpy(&held, bytes + i * kWordBytes, kWordBytes);
      difference |= held ^ word_at(seed, first + i);
    }
  };
  const auto partial = [seed, &difference](const std::byte* bytes, std::uint64_t index, std::uint64_t first,
                                           std::uint64_t length) {
    const std::uint64_t word = word_at(seed, index);
    if (std::memcmp(bytes, reinterpret_cast<const std::byte*>(&word) + first, length) != 0) difference |= 1;
  };
  std::uint64_t offset = 0;
  for (FragmentCursor cursor(source, slot); cursor.run() != 0; cursor.advance(cursor.run())) {
    for_each_word(cursor.at(), offset, cursor.run(), whole, partial);
    offset += cursor.run();
  }
  return difference == 0;
}

}  // namespace kvtier
