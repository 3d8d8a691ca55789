// XXH3 against the reference library (libxxhash), for every variant this machine has.
#include "digest/xxh3.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <doctest/doctest.h>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

using kvtier::Hash128;

std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

Hash128 reference_128(const void* data, std::size_t length, std::uint64_t seed) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(data, length, seed);
  return {hash.low64, hash.high64};
}

// The variants of this machine; each test body runs once for each. Puts the first one back afterwards.
class ForEachVariant {
 public:
  ForEachVariant() : before_(kvtier::xxh3_variant()) {}
  ~ForEachVariant() { kvtier::xxh3_force_variant(before_.c_str()); }
  ForEachVariant(const ForEachVariant&) = delete;
  ForEachVariant& operator=(const ForEachVariant&) = delete;

  template <typename Body>
  void run(Body body) {
    for (const char* name : {"scalar", "avx2", "neon"}) {
      if (!kvtier::xxh3_force_variant(name)) continue;
      CAPTURE(name);
      CHECK(std::string(kvtier::xxh3_variant()) == name);
      body();
    }
  }

 private:
  std::string before_;
};

constexpr std::uint64_t kSeeds[] = {0, 1, 0x9E3779B185EBCA87U, 0xFFFFFFFFFFFFFFFFU, 0x0123456789ABCDEFU};

}  // namespace

TEST_CASE("every length from 0 to 2048 gives the reference's hashes, for every seed and variant") {
  const std::vector<std::uint8_t> bytes = random_bytes(2048 + 1, 1);
  ForEachVariant().run([&] {
    for (const std::uint64_t seed : kSeeds) {
      for (std::size_t length = 0; length <= 2048; ++length) {
        const std::uint8_t* const data = bytes.data() + 1;  // not aligned
        CAPTURE(length);
        CAPTURE(seed);
        REQUIRE(kvtier::xxh3_64(data, length, seed) == XXH3_64bits_withSeed(data, length, seed));
        REQUIRE(kvtier::xxh3_128(data, length, seed) == reference_128(data, length, seed));
      }
    }
  });
}

TEST_CASE("the published values of the empty input are ours too") {
  CHECK(kvtier::xxh3_64(nullptr, 0, 0) == 0x2D06800538D394C2U);
  CHECK(kvtier::xxh3_128(nullptr, 0, 0) == Hash128{0x6001C324468D497FU, 0x99AA06D3014798D8U});
}

TEST_CASE("streams split at every place of a short input agree with the reference") {
  const std::vector<std::uint8_t> bytes = random_bytes(600, 2);
  const std::uint64_t seed = 42;
  ForEachVariant().run([&] {
    auto narrow = std::make_unique<kvtier::Xxh3Stream64>();
    auto wide = std::make_unique<kvtier::Xxh3Stream128>();
    narrow->reset(seed);
    wide->reset(seed);
    for (const std::size_t length : {1U, 16U, 239U, 240U, 241U, 255U, 256U, 257U, 320U, 511U, 512U, 513U, 600U}) {
      const std::uint64_t expected_64 = XXH3_64bits_withSeed(bytes.data(), length, seed);
      const Hash128 expected_128 = reference_128(bytes.data(), length, seed);
      for (std::size_t split = 0; split <= length; ++split) {
        narrow->restart();
        wide->restart();
        narrow->update(bytes.data(), split);
        narrow->update(bytes.data() + split, length - split);
        wide->update(bytes.data(), split);
        wide->update(bytes.data() + split, length - split);
        CAPTURE(length);
        CAPTURE(split);
        REQUIRE(narrow->digest() == expected_64);
        REQUIRE(wide->digest() == expected_128);
      }
    }
  });
}

TEST_CASE("long inputs fed in random pieces agree with the reference at every step") {
  std::mt19937_64 random(3);
  const std::vector<std::uint8_t> bytes = random_bytes(300'000, 4);
  ForEachVariant().run([&] {
    for (int round = 0; round < 60; ++round) {
      const std::uint64_t seed = round % 4 == 0 ? 0 : random();
      const std::size_t length = 1 + random() % bytes.size();
      const std::size_t largest = std::size_t{1} << (1 + random() % 17);
      kvtier::Xxh3Stream64 narrow;
      kvtier::Xxh3Stream128 wide;
      narrow.reset(seed);
      wide.reset(seed);
      int steps = 0;
      for (std::size_t fed = 0; fed < length;) {
        const std::size_t piece = std::min<std::size_t>(length - fed, random() % largest);
        narrow.update(bytes.data() + fed, piece);
        wide.update(bytes.data() + fed, piece);
        fed += piece;
        // A digest does not disturb the stream.
        if (++steps % 16 == 0) REQUIRE(narrow.digest() == XXH3_64bits_withSeed(bytes.data(), fed, seed));
      }
      CHECK(narrow.digest() == XXH3_64bits_withSeed(bytes.data(), length, seed));
      CHECK(wide.digest() == reference_128(bytes.data(), length, seed));
      CHECK(kvtier::xxh3_64(bytes.data(), length, seed) == narrow.digest());
      CHECK(kvtier::xxh3_128(bytes.data(), length, seed) == wide.digest());
    }
  });
}

TEST_CASE("a stream fed byte by byte agrees with the reference") {
  const std::vector<std::uint8_t> bytes = random_bytes(5000, 5);
  kvtier::Xxh3Stream64 stream;
  stream.reset(7);
  for (std::size_t fed = 0; fed < bytes.size(); ++fed) {
    stream.update(bytes.data() + fed, 1);
    REQUIRE(stream.digest() == XXH3_64bits_withSeed(bytes.data(), fed + 1, 7));
  }
}

TEST_CASE("restart keeps the seed and reset takes a new one") {
  const std::vector<std::uint8_t> bytes = random_bytes(1000, 6);
  kvtier::Xxh3Stream64 stream;
  stream.reset(11);
  stream.update(bytes.data(), 777);
  stream.restart();
  stream.update(bytes.data(), bytes.size());
  CHECK(stream.digest() == XXH3_64bits_withSeed(bytes.data(), bytes.size(), 11));
  stream.reset(12);
  stream.update(bytes.data(), bytes.size());
  CHECK(stream.digest() == XXH3_64bits_withSeed(bytes.data(), bytes.size(), 12));
}

TEST_CASE("a new stream has seed 0") {
  const std::vector<std::uint8_t> bytes = random_bytes(1000, 7);
  kvtier::Xxh3Stream128 stream;
  stream.update(bytes.data(), bytes.size());
  CHECK(stream.digest() == reference_128(bytes.data(), bytes.size(), 0));
}

TEST_CASE("a variant that does not exist is refused and changes nothing") {
  const std::string before = kvtier::xxh3_variant();
  CHECK_FALSE(kvtier::xxh3_force_variant("abacus"));
  CHECK(kvtier::xxh3_variant() == before);
}
