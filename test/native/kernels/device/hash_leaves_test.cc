// Leaf hashes that the kernels make on the simulated driver, against the CPU's payload checksum and XXH3.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "digest/payload_checksum.h"
#include "digest/xxh3.h"
#include "kernels/device/cut_launches.h"
#include "native/kernels/device/kernel_world.h"

using kvtier::checksum_of_leaves;
using kvtier::DeviceKernels;
using kvtier::kLeafBytes;
using kvtier::LeafHashes;
using kvtier::leaves_of_part;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::Error;
using kvtier::cuda::Stream;
using kvtier::sim::has;
using kvtier::sim::KernelWorld;
using kvtier::sim::Pinned;
using kvtier::sim::random_bytes;

namespace {

// A payload in device memory and in the test's, and the words that the device shall write.
struct Payload {
  std::vector<std::byte> bytes;
  LeafHashes asked;
  std::vector<std::uint64_t> hashes;
};

class Hashing {
 public:
  explicit Hashing(const KernelWorld& kernel_world) : world_(kernel_world.world), kernels_(kernel_world.loaded()) {}

  // A payload that begins `shift` bytes beyond an allocation.
  void add(std::mt19937_64& random, std::uint64_t part_bytes, std::uint32_t parts, std::uint64_t seed,
           std::uint64_t shift = 0) {
    Payload payload;
    payload.bytes = random_bytes<std::byte>(random, part_bytes * parts);
    const DevicePtr address = world_.allocate(payload.bytes.size() + shift) + shift;
    REQUIRE(world_.sim.write(address, payload.bytes.data(), payload.bytes.size()) == 1);
    payload.asked = {.payload = address, .part_bytes = part_bytes, .parts = parts, .seed = seed, .result = words_ * 8};
    payload.hashes.resize(leaves_of_part(part_bytes) * parts);
    words_ += payload.hashes.size();
    payloads_.push_back(std::move(payload));
  }

  // Hashes all of them on the device, by the kernel of this name where it is given.
  void run(const std::string& kernel = "") {
    Pinned results(words_ * 8 + 8, 0xEE);
    std::vector<LeafHashes> asked;
    for (const Payload& payload : payloads_) {
      asked.push_back(payload.asked);
      asked.back().result += results.address();
    }
    const Stream stream = world_.stream();
    world_.sim.hold_stream(stream);
    REQUIRE(kernels_->hash_leaves(asked, stream).is_ok());
    if (!kernel.empty()) CHECK(has(world_.sim.next_text(stream), kernel));
    world_.sim.release_stream(stream);
    REQUIRE(world_.cuda.stream_synchronize(stream) == Error::kSuccess);
    for (Payload& payload : payloads_) {
      std::memcpy(payload.hashes.data(), results.data() + payload.asked.result, payload.hashes.size() * 8);
    }
    CHECK(results.count(0xEE) >= 8);
  }

  [[nodiscard]] const std::vector<Payload>& payloads() const { return payloads_; }

 private:
  const kvtier::sim::World& world_;
  std::unique_ptr<DeviceKernels> kernels_;
  std::vector<Payload> payloads_;
  std::uint64_t words_ = 0;
};

void check_checksums(const Hashing& hashing) {
  for (const Payload& payload : hashing.payloads()) {
    CAPTURE(payload.asked.part_bytes);
    CAPTURE(payload.asked.parts);
    CAPTURE(payload.asked.seed);
    CHECK((checksum_of_leaves(payload.hashes, payload.asked.seed) ==
           kvtier::payload_checksum(payload.bytes, payload.asked.part_bytes, payload.asked.seed)));
  }
}

constexpr std::uint64_t kSeeds[] = {0, 1, 0x9E3779B185EBCA87U, ~std::uint64_t{0}};

}  // namespace

TEST_CASE("a leaf of every length up to four blocks of stripes has the CPU's hash, whatever the seed and the address") {
  std::mt19937_64 random(1);
  for (const std::uint64_t seed : kSeeds) {
    const KernelWorld kernel_world;
    Hashing hashing(kernel_world);
    for (std::uint64_t length = 1; length <= 2200; length += length < 300 ? 1 : 37) {
      hashing.add(random, length, 1, seed, random() % 16);
    }
    hashing.run("kvtier_hash_leaves_1");
    for (const Payload& payload : hashing.payloads()) {
      CAPTURE(payload.bytes.size());
      CHECK(payload.hashes[0] == kvtier::xxh3_64(payload.bytes.data(), payload.bytes.size(), seed));
    }
  }
}

TEST_CASE("lengths around stripes, blocks of stripes, what is read ahead and the leaf have the CPU's hash") {
  std::mt19937_64 random(2);
  for (const std::uint64_t seed : kSeeds) {
    const KernelWorld kernel_world;
    Hashing odd(kernel_world);
    Hashing wide(kernel_world);
    for (const std::uint64_t around :
         {240U, 256U, 512U, 1024U, 1088U, 2048U, 3072U, 4096U, 5120U, 8192U, 16'384U, 61'440U, 65'472U, 65'536U}) {
      for (const std::uint64_t length : {around - 64, around - 16, around, around + 16, around + 64}) {
        if (length > kLeafBytes) continue;
        wide.add(random, length, 1, seed);
        odd.add(random, length - 1, 1, seed, 5);
      }
    }
    wide.run("kvtier_hash_leaves_16");
    odd.run("kvtier_hash_leaves_1");
    for (const Hashing* hashing : {&wide, &odd}) {
      for (const Payload& payload : hashing->payloads()) {
        CAPTURE(payload.bytes.size());
        CHECK(payload.hashes[0] == kvtier::xxh3_64(payload.bytes.data(), payload.bytes.size(), seed));
      }
    }
  }
}

TEST_CASE("the leaves of payloads of many shapes make their payload checksums") {
  std::mt19937_64 random(3);
  const KernelWorld kernel_world;
  Hashing hashing(kernel_world);
  for (const std::uint64_t part_bytes : {std::uint64_t{16}, std::uint64_t{4096}, kLeafBytes - 16, kLeafBytes + 0,
                                         kLeafBytes + 16, 3 * kLeafBytes, 3 * kLeafBytes + 4096}) {
    for (const std::uint32_t parts : {1U, 2U, 5U}) hashing.add(random, part_bytes, parts, random());
  }
  hashing.run("kvtier_hash_leaves_16");
  check_checksums(hashing);
}

TEST_CASE("parts of odd lengths, whose leaves begin anywhere, make their payload checksums") {
  std::mt19937_64 random(4);
  const KernelWorld kernel_world;
  Hashing hashing(kernel_world);
  for (const std::uint64_t part_bytes :
       {std::uint64_t{1}, std::uint64_t{241}, kLeafBytes - 1, kLeafBytes + 1, 2 * kLeafBytes + 12'345}) {
    for (const std::uint32_t parts : {1U, 3U}) hashing.add(random, part_bytes, parts, random());
  }
  hashing.run("kvtier_hash_leaves_1");
  check_checksums(hashing);
}

TEST_CASE("more payloads than a launch takes are hashed by several, and odd ones slow only their own launch") {
  std::mt19937_64 random(5);
  const KernelWorld kernel_world;
  Hashing hashing(kernel_world);
  for (int i = 0; i < 250; ++i)
    hashing.add(random, 32 * (1 + random() % 40), static_cast<std::uint32_t>(1 + random() % 3), random());
  hashing.add(random, 999, 2, 7, 1);
  hashing.run("kvtier_hash_leaves_16");
  CHECK(kernel_world.world.sim.calls("cuLaunchKernel") == 3);
  check_checksums(hashing);
}

TEST_CASE("payloads without parts have no leaves, and none are queued for them") {
  const KernelWorld kernel_world("hold=1");
  const auto kernels = kernel_world.loaded();
  const Stream stream = kernel_world.world.stream();
  const std::array<LeafHashes, 1> empty{{{.part_bytes = 16, .parts = 0}}};
  CHECK(kernels->hash_leaves({}, stream).is_ok());
  CHECK(kernels->hash_leaves(empty, stream).is_ok());
  CHECK(kernel_world.world.sim.pending(stream) == 0);
}

TEST_CASE("a launch counts no more leaves than 32 bits do") {
  // 2^22 leaves in each of 511 parts: no two of them fit.
  const LeafHashes large{.part_bytes = (std::uint64_t{1} << 38) - 1, .parts = 511};
  const std::array<LeafHashes, 3> payloads{{large, {.part_bytes = 1}, large}};
  kvtier::HashLaunches launches(payloads);
  kvtier::device::HashLaunch launch;
  REQUIRE(launches.next(launch));
  CHECK(launch.payloads == 2);
  CHECK(launch.leaves == (511U << 22) + 1);
  REQUIRE(launches.next(launch));
  CHECK(launch.payloads == 1);
  CHECK_FALSE(launches.next(launch));
}

TEST_CASE("a flipped bit anywhere in a leaf changes its hash alone") {
  std::mt19937_64 random(6);
  const KernelWorld kernel_world;
  Hashing hashing(kernel_world);
  hashing.add(random, 3 * kLeafBytes, 1, 42);
  hashing.run();
  const std::vector<std::uint64_t> before = hashing.payloads()[0].hashes;
  for (const std::size_t at : {kLeafBytes, kLeafBytes + 33'333, 2 * kLeafBytes - 1}) {
    std::byte flipped = hashing.payloads()[0].bytes[at] ^ std::byte{4};
    const DevicePtr address = hashing.payloads()[0].asked.payload + at;
    REQUIRE(kernel_world.world.sim.write(address, &flipped, 1) == 1);
    hashing.run();
    CHECK(hashing.payloads()[0].hashes[0] == before[0]);
    CHECK(hashing.payloads()[0].hashes[1] != before[1]);
    CHECK(hashing.payloads()[0].hashes[2] == before[2]);
    flipped ^= std::byte{4};
    REQUIRE(kernel_world.world.sim.write(address, &flipped, 1) == 1);
  }
}
