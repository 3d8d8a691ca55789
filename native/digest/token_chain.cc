#include "digest/token_chain.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "platform/dynamic_library.h"

namespace kvtier {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are hashed as they lie in memory");

// OpenSSL's SHA-256, declared by ourselves: its context is 112 bytes; the room here is for other builds and forks.
struct alignas(64) Sha256Context {
  std::array<std::byte, 1024> room;
};
using Sha256Init = int(Sha256Context*);
using Sha256Update = int(Sha256Context*, const void*, std::size_t);
using Sha256Final = int(std::uint8_t*, Sha256Context*);

struct Sha256 {
  Sha256Init* init = nullptr;
  Sha256Update* update = nullptr;
  Sha256Final* final = nullptr;

  [[nodiscard]] bool complete() const noexcept { return init != nullptr && update != nullptr && final != nullptr; }
  [[nodiscard]] bool digest(const void* data, std::size_t length, SequenceHash& hash) const noexcept {
    Sha256Context context;
    return init(&context) == 1 && update(&context, data, length) == 1 && final(hash.data(), &context) == 1;
  }
};

// The digest of "abc" in the standard (FIPS 180-4).
constexpr SequenceHash kDigestOfAbc = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                       0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                       0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};

// Symbols that do not compute SHA-256 count as none.
Sha256 find_sha256() noexcept {
  const Sha256 found{function_in_process<Sha256Init>("SHA256_Init"), function_in_process<Sha256Update>("SHA256_Update"),
                     function_in_process<Sha256Final>("SHA256_Final")};
  SequenceHash hash{};
  if (!found.complete() || !found.digest("abc", 3, hash) || hash != kDigestOfAbc) return {};
  return found;
}

const Sha256& sha256() noexcept {
  static const Sha256 found = find_sha256();
  return found;
}

// A block's message: "kvb1" | 32 | parent | 4 * tokens | tokens | extra's length | extra.
constexpr std::array<std::uint8_t, 4> kDomain = {'k', 'v', 'b', '1'};
constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kParentAt = kDomain.size() + kLengthBytes;
constexpr std::size_t kTokensAt = kParentAt + std::tuple_size_v<SequenceHash> + kLengthBytes;

void write_length(std::uint8_t* to, std::size_t length) noexcept {
  const std::uint32_t word = static_cast<std::uint32_t>(length);
  std::memcpy(to, &word, sizeof word);
}

Status check_sizes(std::size_t token_count, std::uint32_t tokens_per_block, std::size_t extra_bytes,
                   std::size_t hash_count) {
  constexpr std::uint64_t kMaxLength = std::numeric_limits<std::uint32_t>::max();
  if (tokens_per_block == 0 || std::uint64_t{tokens_per_block} * 4 > kMaxLength) {
    return Status(Code::kInvalidValue, std::to_string(tokens_per_block) +
                                           " tokens a block asked for; at least 1 and at most 1073741823 are possible");
  }
  if (token_count / tokens_per_block != hash_count || token_count % tokens_per_block != 0) {
    return Status(Code::kInvalidValue, std::to_string(hash_count) + " blocks of " + std::to_string(tokens_per_block) +
                                           " tokens asked for, " + std::to_string(token_count) + " tokens given");
  }
  if (extra_bytes > kMaxLength) {
    return Status(Code::kInvalidValue,
                  std::to_string(extra_bytes) + " bytes of extra keys given; at most 4294967295 are possible");
  }
  return Status::ok();
}

}  // namespace

bool token_chain_available() noexcept {
  return sha256().complete();
}

Status hash_tokens(const SequenceHash& parent, std::span<const std::uint32_t> tokens, std::uint32_t tokens_per_block,
                   std::span<const std::uint8_t> extra, std::span<SequenceHash> hashes) noexcept {
  const Sha256& hasher = sha256();
  if (!hasher.complete()) {
    return Status(Code::kUnsupported, "this process does not carry OpenSSL's SHA-256 (SHA256_Init, _Update, _Final)");
  }
  if (Status sizes = check_sizes(tokens.size(), tokens_per_block, extra.size(), hashes.size()); !sizes) return sizes;
  if (hashes.empty()) return Status::ok();

  // Only the parent and the tokens change from block to block; usual blocks need no allocation.
  const std::size_t token_bytes = std::size_t{tokens_per_block} * 4;
  const std::size_t message_bytes = kTokensAt + token_bytes + kLengthBytes + extra.size();
  std::array<std::uint8_t, 1024> near;
  std::vector<std::uint8_t> far;
  if (message_bytes > near.size()) far.resize(message_bytes);
  std::uint8_t* const message = far.empty() ? near.data() : far.data();
  std::copy(kDomain.begin(), kDomain.end(), message);
  write_length(message + kDomain.size(), parent.size());
  write_length(message + kTokensAt - kLengthBytes, token_bytes);
  write_length(message + kTokensAt + token_bytes, extra.size());
  std::copy(extra.begin(), extra.end(), message + kTokensAt + token_bytes + kLengthBytes);

  const SequenceHash* before = &parent;
  const std::uint32_t* block = tokens.data();
  for (SequenceHash& hash : hashes) {
    std::memcpy(message + kParentAt, before->data(), before->size());
    std::memcpy(message + kTokensAt, block, token_bytes);
    if (!hasher.digest(message, message_bytes, hash)) {
      return Status(Code::kInternal, "OpenSSL's SHA-256 refused " + std::to_string(message_bytes) + " bytes");
    }
    before = &hash;
    block += tokens_per_block;
  }
  return Status::ok();
}

}  // namespace kvtier
