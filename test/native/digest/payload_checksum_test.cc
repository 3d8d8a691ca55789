// The payload checksum against its definition, put together from the reference library's hashes.
#include "digest/payload_checksum.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <doctest/doctest.h>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <string>
#include <vector>

using kvtier::Checksum;
using kvtier::kLeafBytes;
using kvtier::PayloadChecksum;

namespace {

std::vector<std::byte> random_payload(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> payload(size);
  for (std::byte& byte : payload) byte = static_cast<std::byte>(random());
  return payload;
}

Checksum by_definition(std::span<const std::byte> payload, std::size_t part_bytes, std::uint64_t seed) {
  std::vector<std::uint64_t> leaves;
  for (std::size_t part = 0; part < payload.size(); part += part_bytes) {
    for (std::size_t leaf = 0; leaf < part_bytes; leaf += kLeafBytes) {
      const std::size_t length = std::min(kLeafBytes, part_bytes - leaf);
      leaves.push_back(XXH3_64bits_withSeed(payload.data() + part + leaf, length, seed));
    }
  }
  const XXH128_hash_t root = XXH3_128bits_withSeed(leaves.data(), leaves.size() * sizeof(std::uint64_t), seed);
  Checksum checksum;
  for (unsigned i = 0; i < 8; ++i) {
    checksum[i] = static_cast<std::uint8_t>(root.low64 >> (8 * i));
    checksum[8 + i] = static_cast<std::uint8_t>(root.high64 >> (8 * i));
  }
  return checksum;
}

std::string hex(const Checksum& checksum) {
  std::string text;
  for (const std::uint8_t byte : checksum) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

}  // namespace

TEST_CASE("leaves of 64 KiB that never cross a part, and a root over them: as the definition says") {
  for (const std::size_t part_bytes : {std::size_t{1}, std::size_t{100}, std::size_t{4096}, kLeafBytes - 1, kLeafBytes,
                                       kLeafBytes + 1, 3 * kLeafBytes, 3 * kLeafBytes + 4096}) {
    for (const std::size_t parts : {1U, 2U, 5U}) {
      const std::vector<std::byte> payload = random_payload(part_bytes * parts, part_bytes + parts);
      CAPTURE(part_bytes);
      CAPTURE(parts);
      CHECK(hex(kvtier::payload_checksum(payload, part_bytes, 99)) == hex(by_definition(payload, part_bytes, 99)));
    }
  }
}

TEST_CASE("hashes of the leaves make the checksum, whoever made them") {
  for (const std::size_t part_bytes : {std::size_t{1}, kLeafBytes, 2 * kLeafBytes + 4096}) {
    for (const std::size_t parts : {1U, 3U, 40U}) {
      const std::vector<std::byte> payload = random_payload(part_bytes * parts, part_bytes);
      std::vector<std::uint64_t> leaves;
      for (std::size_t part = 0; part < payload.size(); part += part_bytes) {
        for (std::size_t leaf = 0; leaf < part_bytes; leaf += kLeafBytes) {
          const std::size_t length = std::min(kLeafBytes, part_bytes - leaf);
          leaves.push_back(XXH3_64bits_withSeed(payload.data() + part + leaf, length, 31));
        }
      }
      CHECK(leaves.size() == kvtier::leaves_of_part(part_bytes) * parts);
      CHECK(hex(kvtier::checksum_of_leaves(leaves, 31)) == hex(kvtier::payload_checksum(payload, part_bytes, 31)));
    }
  }
}

TEST_CASE("the pieces in which a block is fed do not change its checksum") {
  std::mt19937_64 random(5);
  const std::size_t part_bytes = 2 * kLeafBytes + 12'288;
  const std::vector<std::byte> payload = random_payload(part_bytes * 3, 6);
  const Checksum expected = by_definition(payload, part_bytes, 123);
  PayloadChecksum checksum(123, part_bytes);
  for (const std::size_t largest : {std::size_t{7}, std::size_t{64}, std::size_t{8192}, std::size_t{1} << 20}) {
    checksum.reset(123);
    for (std::size_t fed = 0; fed < payload.size();) {
      const std::size_t piece = std::min<std::size_t>(payload.size() - fed, random() % (largest + 1));
      checksum.update(payload.data() + fed, piece);
      fed += piece;
    }
    CHECK(hex(checksum.finish()) == hex(expected));
  }
}

TEST_CASE("one flipped bit, another seed, another split into parts or two swapped leaves are all noticed") {
  std::vector<std::byte> payload = random_payload(4 * kLeafBytes, 7);
  const Checksum original = kvtier::payload_checksum(payload, payload.size(), 1);
  for (const std::size_t at : {std::size_t{0}, kLeafBytes - 1, kLeafBytes, payload.size() - 1}) {
    payload[at] ^= std::byte{0x10};
    CHECK(kvtier::payload_checksum(payload, payload.size(), 1) != original);
    payload[at] ^= std::byte{0x10};
  }
  CHECK(kvtier::payload_checksum(payload, payload.size(), 1) == original);
  CHECK(kvtier::payload_checksum(payload, payload.size(), 2) != original);
  const std::size_t third = kLeafBytes * 3 / 2;
  CHECK(kvtier::payload_checksum(std::span(payload).first(2 * third), third, 1) !=
        kvtier::payload_checksum(std::span(payload).first(2 * third), 2 * third, 1));
  std::swap_ranges(payload.begin(), payload.begin() + kLeafBytes, payload.begin() + kLeafBytes);
  CHECK(kvtier::payload_checksum(payload, payload.size(), 1) != original);
}

TEST_CASE("reset takes a new seed and forgets what was fed") {
  const std::vector<std::byte> payload = random_payload(kLeafBytes, 8);
  PayloadChecksum checksum(1, kLeafBytes);
  checksum.update(payload.data(), 1000);
  checksum.reset(2);
  checksum.update(payload.data(), payload.size());
  CHECK(checksum.finish() == by_definition(payload, kLeafBytes, 2));
}

TEST_CASE("the checksum of a known block is the one that stores on disk carry") {
  std::vector<std::byte> payload(2 * (kLeafBytes + 4096));
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i * 31 + (i >> 8));
  CHECK(hex(kvtier::payload_checksum(payload, payload.size() / 2, 0x0807060504030201U)) ==
        "b8754ebc17b9bace2912d7f0e001ef7c");
}
