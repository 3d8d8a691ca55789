#include "digest/xxh3.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>

#include "digest/xxh3_internal.h"
#include "platform/cpu.h"

namespace kvtier {
namespace xxh3 {

std::size_t accumulate_scalar(std::uint64_t* accumulators, const std::uint8_t* data, std::size_t stripe_count,
                              const std::uint8_t* secret, std::size_t stripe_in_block) noexcept {
  for (; stripe_count > 0; --stripe_count, data += kStripeBytes) {
    const std::uint8_t* const key = secret + 8 * stripe_in_block;
    for (std::size_t i = 0; i < 8; ++i) {
      const std::uint64_t word = read_64(data + 8 * i);
      accumulators[i ^ 1] += word;
      accumulators[i] += multiply_halves(word ^ read_64(key + 8 * i));
    }
    if (++stripe_in_block < kStripesPerBlock) continue;
    for (std::size_t i = 0; i < 8; ++i) {
      accumulators[i] = scramble_word(accumulators[i], read_64(secret + kScrambleSecret + 8 * i));
    }
    stripe_in_block = 0;
  }
  return stripe_in_block;
}

namespace {

struct Variant {
  const char* name;
  Accumulate accumulate;
  bool (*usable)() noexcept;
};

// The best first.
constexpr Variant kVariants[] = {
#if defined(__x86_64__)
    {"avx2", accumulate_avx2, []() noexcept { return cpu_features().avx2; }},
#elif defined(__aarch64__)
    {"neon", accumulate_neon, []() noexcept { return cpu_features().neon; }},
#endif
    {"scalar", accumulate_scalar, []() noexcept { return true; }},
};

// nullptr until the first use.
std::atomic<const Variant*> g_variant{nullptr};

const Variant& choose() noexcept {
  const Variant* const best =
      std::find_if(std::begin(kVariants), std::end(kVariants), [](const Variant& variant) { return variant.usable(); });
  const Variant* expected = nullptr;
  g_variant.compare_exchange_strong(expected, best, std::memory_order_relaxed);
  return *g_variant.load(std::memory_order_relaxed);
}

const Variant& variant() noexcept {
  const Variant* const chosen = g_variant.load(std::memory_order_relaxed);
  return chosen != nullptr ? *chosen : choose();
}

void derive_secret(std::uint8_t* secret, std::uint64_t seed) noexcept {
  for (std::size_t at = 0; at < kSecretBytes; at += 16) {
    write_64(secret + at, read_64(default_secret() + at) + seed);
    write_64(secret + at + 8, read_64(default_secret() + at + 8) - seed);
  }
}

[[nodiscard]] std::uint64_t merge(const std::uint64_t* accumulators, const std::uint8_t* secret,
                                  std::uint64_t start) noexcept {
  std::uint64_t sum = start;
  for (std::size_t i = 0; i < 8; i += 2) {
    sum += multiply_fold(accumulators[i] ^ read_64(secret + 8 * i), accumulators[i + 1] ^ read_64(secret + 8 * i + 8));
  }
  return avalanche(sum);
}

[[nodiscard]] std::uint64_t merge_64(const std::uint64_t* accumulators, const std::uint8_t* secret,
                                     std::uint64_t length) noexcept {
  return merge(accumulators, secret + kMergeSecretLow, length * kPrime64_1);
}

[[nodiscard]] Hash128 merge_128(const std::uint64_t* accumulators, const std::uint8_t* secret,
                                std::uint64_t length) noexcept {
  return {merge_64(accumulators, secret, length),
          merge(accumulators, secret + kMergeSecretHigh, ~(length * kPrime64_2))};
}

// Accumulators and secret of one whole input of more than kShortBytes bytes.
struct Whole {
  alignas(64) std::array<std::uint64_t, 8> accumulators = std::to_array(kInitialAccumulators);
  alignas(64) std::array<std::uint8_t, kSecretBytes> own_secret;
  const std::uint8_t* secret = default_secret();

  Whole(const std::uint8_t* data, std::size_t length, std::uint64_t seed) noexcept {
    if (seed != 0) {
      derive_secret(own_secret.data(), seed);
      secret = own_secret.data();
    }
    const Accumulate accumulate = variant().accumulate;
    accumulate(accumulators.data(), data, (length - 1) / kStripeBytes, secret, 0);
    accumulate(accumulators.data(), data + length - kStripeBytes, 1, secret + kLastStripeSecret, 0);
  }
};

}  // namespace
}  // namespace xxh3

std::uint64_t xxh3_64(const void* data, std::size_t length, std::uint64_t seed) noexcept {
  const auto* const bytes = static_cast<const std::uint8_t*>(data);
  if (length <= xxh3::kShortBytes) return xxh3::short_64(bytes, length, seed);
  const xxh3::Whole whole(bytes, length, seed);
  return xxh3::merge_64(whole.accumulators.data(), whole.secret, length);
}

Hash128 xxh3_128(const void* data, std::size_t length, std::uint64_t seed) noexcept {
  const auto* const bytes = static_cast<const std::uint8_t*>(data);
  if (length <= xxh3::kShortBytes) return xxh3::short_128(bytes, length, seed);
  const xxh3::Whole whole(bytes, length, seed);
  return xxh3::merge_128(whole.accumulators.data(), whole.secret, length);
}

void Xxh3State::reset(std::uint64_t seed) noexcept {
  static_assert(kSecretBytes == xxh3::kSecretBytes);
  seed_ = seed;
  xxh3::derive_secret(secret_.data(), seed);
  restart();
}

void Xxh3State::restart() noexcept {
  accumulators_ = std::to_array(xxh3::kInitialAccumulators);
  buffered_ = 0;
  stripes_in_block_ = 0;
  total_ = 0;
}

// What is fed is held back until more comes, for the last stripe is treated apart and an input of up to 240 bytes has
// another form. Once anything was accumulated, the last 64 accumulated bytes lie at the buffer's end for as long as
// fewer than 64 bytes are held back.
void Xxh3State::update(const void* data, std::size_t length) noexcept {
  using xxh3::kStripeBytes;
  if (length == 0) return;
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  total_ += length;
  if (length <= kBufferBytes - buffered_) {
    std::memcpy(buffer_.data() + buffered_, bytes, length);
    buffered_ += length;
    return;
  }

  const xxh3::Accumulate accumulate = xxh3::variant().accumulate;
  if (buffered_ > 0) {
    // Complete the last stripe held back; more than that is coming.
    const std::size_t missing = (kStripeBytes - buffered_ % kStripeBytes) % kStripeBytes;
    std::memcpy(buffer_.data() + buffered_, bytes, missing);
    buffered_ += missing;
    bytes += missing;
    length -= missing;
    stripes_in_block_ =
        accumulate(accumulators_.data(), buffer_.data(), buffered_ / kStripeBytes, secret_.data(), stripes_in_block_);
  }
  const std::size_t whole = (length - 1) / kStripeBytes;
  std::uint8_t* const kept = buffer_.data() + kBufferBytes - kStripeBytes;
  if (whole > 0) {
    stripes_in_block_ = accumulate(accumulators_.data(), bytes, whole, secret_.data(), stripes_in_block_);
    bytes += whole * kStripeBytes;
    length -= whole * kStripeBytes;
    std::memcpy(kept, bytes - kStripeBytes, kStripeBytes);
  } else {
    std::memmove(kept, buffer_.data() + buffered_ - kStripeBytes, kStripeBytes);
  }
  std::memcpy(buffer_.data(), bytes, length);
  buffered_ = length;
}

void Xxh3State::finish_accumulators(std::uint64_t* accumulators) const noexcept {
  using xxh3::kStripeBytes;
  const xxh3::Accumulate accumulate = xxh3::variant().accumulate;
  std::copy(accumulators_.begin(), accumulators_.end(), accumulators);
  alignas(64) std::uint8_t last[kStripeBytes];
  if (buffered_ >= kStripeBytes) {
    accumulate(accumulators, buffer_.data(), (buffered_ - 1) / kStripeBytes, secret_.data(), stripes_in_block_);
    std::memcpy(last, buffer_.data() + buffered_ - kStripeBytes, kStripeBytes);
  } else {
    const std::size_t before = kStripeBytes - buffered_;
    std::memcpy(last, buffer_.data() + kBufferBytes - before, before);
    std::memcpy(last + before, buffer_.data(), buffered_);
  }
  accumulate(accumulators, last, 1, secret_.data() + xxh3::kLastStripeSecret, 0);
}

std::uint64_t Xxh3State::digest_64() const noexcept {
  if (total_ <= xxh3::kShortBytes) return xxh3::short_64(buffer_.data(), buffered_, seed_);
  alignas(64) std::uint64_t accumulators[8];
  finish_accumulators(accumulators);
  return xxh3::merge_64(accumulators, secret_.data(), total_);
}

Hash128 Xxh3State::digest_128() const noexcept {
  if (total_ <= xxh3::kShortBytes) return xxh3::short_128(buffer_.data(), buffered_, seed_);
  alignas(64) std::uint64_t accumulators[8];
  finish_accumulators(accumulators);
  return xxh3::merge_128(accumulators, secret_.data(), total_);
}

const char* xxh3_variant() noexcept {
  return xxh3::variant().name;
}

bool xxh3_force_variant(const char* name) noexcept {
  for (const xxh3::Variant& candidate : xxh3::kVariants) {
    if (std::strcmp(candidate.name, name) != 0 || !candidate.usable()) continue;
    xxh3::g_variant.store(&candidate, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace kvtier
