#include "hash_limit.h"

#include <array>
#include <cstring>

#include "platform/dynamic_library.h"

namespace limits {
namespace {

constexpr std::size_t kHashBytes = 32;
constexpr std::size_t kHeadBytes = 8;  // "kvb1" and the parent's length
constexpr std::size_t kMostTokens = 64;

struct alignas(64) Context {
  std::array<std::uint8_t, 1024> room;
};
using Init = int(Context*);
using Update = int(Context*, const void*, std::size_t);
using Final = int(std::uint8_t*, Context*);

void put_length(std::uint8_t* at, std::size_t length) noexcept {
  const auto word = static_cast<std::uint32_t>(length);
  std::memcpy(at, &word, sizeof word);
}

}  // namespace

bool hash_chain(const std::uint8_t* parent, const std::uint32_t* tokens, std::size_t tokens_per_block,
                std::size_t block_count, std::uint8_t* hashes) noexcept {
  static Init* const init = kvtier::function_in_process<Init>("SHA256_Init");
  static Update* const update = kvtier::function_in_process<Update>("SHA256_Update");
  static Final* const final = kvtier::function_in_process<Final>("SHA256_Final");
  if (init == nullptr || update == nullptr || final == nullptr || tokens_per_block > kMostTokens) return false;

  const std::size_t token_bytes = tokens_per_block * 4;
  const std::size_t message_bytes = kHeadBytes + kHashBytes + 4 + token_bytes + 4;
  std::array<std::uint8_t, kHeadBytes + kHashBytes + 4 + kMostTokens * 4 + 4> message{'k', 'v', 'b', '1'};
  put_length(message.data() + 4, kHashBytes);
  put_length(message.data() + kHeadBytes + kHashBytes, token_bytes);
  for (std::size_t block = 0; block < block_count; ++block) {
    std::memcpy(message.data() + kHeadBytes, parent, kHashBytes);
    std::memcpy(message.data() + kHeadBytes + kHashBytes + 4, tokens + block * tokens_per_block, token_bytes);
    std::uint8_t* hash = hashes + block * kHashBytes;
    Context context;
    init(&context);
    update(&context, message.data(), message_bytes);
    final(hash, &context);
    parent = hash;
  }
  return true;
}

}  // namespace limits
