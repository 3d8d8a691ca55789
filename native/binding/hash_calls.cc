// Calls that hash tokens into sequence hashes, on the caller's thread or on an engine thread.
#include <cstring>
#include <string>
#include <utility>

#include "binding/calls.h"
#include "binding/results.h"
#include "digest/token_chain.h"

namespace kvtier {
namespace {

constexpr std::size_t kMaxExtraBytes = 64 * 1024;

struct HashInput {
  SequenceHash parent{};
  std::uint32_t tokens_per_block = 0;
  std::vector<std::uint8_t> extra;
};

// (parent, tokens, tokensPerBlock, extra) from argument `first` on, without the tokens.
HashInput read_input(const Napi::CallbackInfo& info, std::size_t first) {
  HashInput input;
  const std::span<std::uint8_t> parent = read_bytes(info[first], "parent", kHashBytes, "bytes of a hash");
  std::memcpy(input.parent.data(), parent.data(), kHashBytes);
  input.tokens_per_block = read_u32(info[first + 2], "tokensPerBlock", 1);
  const std::span<std::uint8_t> extra = read_bytes(info[first + 3], "extra");
  if (extra.size() > kMaxExtraBytes) {
    fail(Code::kInvalidValue,
         "extra must have at most " + std::to_string(kMaxExtraBytes) + " bytes, got " + std::to_string(extra.size()));
  }
  input.extra.assign(extra.begin(), extra.end());
  return input;
}

void check_available() {
  if (!token_chain_available()) {
    fail(Code::kUnsupported, "this process does not carry OpenSSL's SHA-256; hash with node:crypto");
  }
}

}  // namespace

Napi::Value can_hash_tokens(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), token_chain_available());
}

Napi::Value hash_tokens_now(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  check_available();
  const HashInput input = read_input(info, 0);
  const std::span<std::uint32_t> tokens = read_words(info[1], "tokens");
  const std::span<std::uint8_t> hashes = read_bytes(info[4], "hashes");
  if (hashes.size() % kHashBytes != 0) {
    fail(Code::kInvalidValue, "hashes must have 32 elements a block, got " + std::to_string(hashes.size()));
  }
  static_assert(alignof(SequenceHash) == 1);
  const std::span<SequenceHash> out(reinterpret_cast<SequenceHash*>(hashes.data()), hashes.size() / kHashBytes);
  check(hash_tokens(input.parent, tokens, input.tokens_per_block, input.extra, out));
  return info.Env().Undefined();
}

Napi::Value start_hash_tokens(AddonData& data, const Napi::CallbackInfo& info) {
  check_available();
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  HashInput input = read_input(info, 1);
  const std::span<std::uint32_t> words = read_words(info[2], "tokens");
  if (words.size() % input.tokens_per_block != 0) {
    fail(Code::kInvalidValue, "tokens must be whole blocks of " + std::to_string(input.tokens_per_block) + ", got " +
                                  std::to_string(words.size()));
  }
  std::vector<std::uint32_t> tokens(words.begin(), words.end());
  start_task(data, ticket, Lane::kShort, {}, [input = std::move(input), tokens = std::move(tokens)] {
    std::vector<SequenceHash> hashes(tokens.size() / input.tokens_per_block);
    const Status status = hash_tokens(input.parent, tokens, input.tokens_per_block, input.extra, hashes);
    TaskOutcome outcome = outcome_of(status);
    if (status.is_ok()) outcome.payload = std::make_unique<HashesResult>(std::move(hashes));
    return outcome;
  });
  return info.Env().Undefined();
}

}  // namespace kvtier
