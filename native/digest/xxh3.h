// XXH3, 64 and 128 bits, seeded, one-shot and streaming: the published algorithm in our own code (scalar, AVX2, NEON;
// chosen once at run time), bit-exact with the reference library. A checksum, never an identity. One thread at a time
// for a stream; the functions from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace kvtier {

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

[[nodiscard]] std::uint64_t xxh3_64(const void* data, std::size_t length, std::uint64_t seed) noexcept;
[[nodiscard]] Hash128 xxh3_128(const void* data, std::size_t length, std::uint64_t seed) noexcept;

// What both streams share: eight accumulators over 64-byte stripes, a seeded secret and the unfinished tail.
class Xxh3State {
 public:
  // Takes a new seed and forgets what was fed.
  void reset(std::uint64_t seed) noexcept;
  // Forgets what was fed and keeps the seed (and so the derived secret).
  void restart() noexcept;
  void update(const void* data, std::size_t length) noexcept;

 protected:
  // With seed 0.
  Xxh3State() noexcept { reset(0); }
  static constexpr std::size_t kSecretBytes = 192;
  static constexpr std::size_t kBufferBytes = 256;
  std::uint64_t digest_64() const noexcept;
  Hash128 digest_128() const noexcept;

 private:
  void finish_accumulators(std::uint64_t* accumulators) const noexcept;

  alignas(64) std::array<std::uint64_t, 8> accumulators_;
  alignas(64) std::array<std::uint8_t, kSecretBytes> secret_;
  alignas(64) std::array<std::uint8_t, kBufferBytes> buffer_;
  std::size_t buffered_ = 0;
  std::size_t stripes_in_block_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t seed_ = 0;
};

class Xxh3Stream64 : public Xxh3State {
 public:
  [[nodiscard]] std::uint64_t digest() const noexcept { return digest_64(); }
};

class Xxh3Stream128 : public Xxh3State {
 public:
  [[nodiscard]] Hash128 digest() const noexcept { return digest_128(); }
};

// The instruction set in use: "scalar", "avx2" or "neon".
[[nodiscard]] const char* xxh3_variant() noexcept;
// For tests and benchmarks: forces a variant this machine has; false when it has not.
bool xxh3_force_variant(const char* name) noexcept;

}  // namespace kvtier
