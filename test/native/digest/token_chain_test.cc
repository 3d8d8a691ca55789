// The token chain against its definition with a SHA-256 of the test's own. The process gets OpenSSL's symbols as a Node
// process has them: from a library that is loaded for general use.
#include "digest/token_chain.h"

#include <dlfcn.h>

#include <doctest/doctest.h>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using kvtier::Code;
using kvtier::SequenceHash;

namespace {

// Before main(), for availability is decided at the first use.
const bool g_openssl = [] {
  for (const char* const name : {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.3.dylib"}) {
    if (::dlopen(name, RTLD_NOW | RTLD_GLOBAL) != nullptr) return true;
  }
  return false;
}();

constexpr std::array<std::uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void compress(std::array<std::uint32_t, 8>& state, const std::uint8_t* block) {
  std::array<std::uint32_t, 64> words{};
  for (std::size_t i = 0; i < 16; ++i) {
    words[i] = std::uint32_t{block[4 * i]} << 24 | std::uint32_t{block[4 * i + 1]} << 16 |
               std::uint32_t{block[4 * i + 2]} << 8 | std::uint32_t{block[4 * i + 3]};
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t a = words[i - 15];
    const std::uint32_t b = words[i - 2];
    words[i] = words[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ (a >> 3)) + words[i - 7] +
               (std::rotr(b, 17) ^ std::rotr(b, 19) ^ (b >> 10));
  }
  std::array<std::uint32_t, 8> s = state;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t first = s[7] + (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) +
                                ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRound[i] + words[i];
    const std::uint32_t second = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) +
                                 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s = {first + second, s[0], s[1], s[2], s[3] + first, s[4], s[5], s[6]};
  }
  for (std::size_t i = 0; i < 8; ++i) state[i] += s[i];
}

SequenceHash sha256(std::vector<std::uint8_t> message) {
  std::array<std::uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const std::uint64_t bits = message.size() * 8;
  message.push_back(0x80);
  while (message.size() % 64 != 56) message.push_back(0);
  for (unsigned i = 0; i < 8; ++i) message.push_back(static_cast<std::uint8_t>(bits >> (56 - 8 * i)));
  for (std::size_t at = 0; at < message.size(); at += 64) compress(state, message.data() + at);
  SequenceHash hash;
  for (std::size_t i = 0; i < 32; ++i) hash[i] = static_cast<std::uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  return hash;
}

std::string hex(const SequenceHash& hash) {
  std::string text;
  for (const std::uint8_t byte : hash) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

std::vector<std::uint8_t> bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

void append_word(std::vector<std::uint8_t>& message, std::uint32_t word) {
  for (unsigned i = 0; i < 4; ++i) message.push_back(static_cast<std::uint8_t>(word >> (8 * i)));
}

// "kvb1" | lp(parent) | lp(tokens) | lp(extra)
SequenceHash by_definition(const SequenceHash& parent, std::span<const std::uint32_t> tokens,
                           std::span<const std::uint8_t> extra) {
  std::vector<std::uint8_t> message = bytes_of("kvb1");
  append_word(message, 32);
  message.insert(message.end(), parent.begin(), parent.end());
  append_word(message, static_cast<std::uint32_t>(tokens.size() * 4));
  for (const std::uint32_t token : tokens) append_word(message, token);
  append_word(message, static_cast<std::uint32_t>(extra.size()));
  message.insert(message.end(), extra.begin(), extra.end());
  return sha256(std::move(message));
}

SequenceHash counting_parent() {
  SequenceHash parent;
  for (std::size_t i = 0; i < parent.size(); ++i) parent[i] = static_cast<std::uint8_t>(i);
  return parent;
}

std::vector<std::uint32_t> some_tokens(std::size_t count) {
  std::vector<std::uint32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<std::uint32_t>(i * 2654435761U);
  return tokens;
}

std::vector<SequenceHash> chain(const SequenceHash& parent, std::span<const std::uint32_t> tokens,
                                std::uint32_t tokens_per_block, std::span<const std::uint8_t> extra) {
  std::vector<SequenceHash> hashes(tokens.size() / tokens_per_block);
  const kvtier::Status status = kvtier::hash_tokens(parent, tokens, tokens_per_block, extra, hashes);
  REQUIRE_MESSAGE(status.is_ok(), status.message());
  return hashes;
}

}  // namespace

TEST_CASE("the test's own SHA-256 computes the standard's examples") {
  CHECK(hex(sha256({})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex(sha256(bytes_of("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex(sha256(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("a process that carries OpenSSL can hash tokens") {
  REQUIRE(g_openssl);
  CHECK(kvtier::token_chain_available());
}

TEST_CASE("known tokens give the hashes that stores on disk carry") {
  const std::vector<SequenceHash> plain = chain(counting_parent(), some_tokens(12), 4, {});
  CHECK(hex(plain[0]) == "668990d96f4a8af7c256d646b51b1eb9a13f9a063be22b77fdbe771b214e35b9");
  CHECK(hex(plain[1]) == "e9041a58908560883d937dcd5eea3c1630d00b1a74e4a25a0ee1a9c14d9d14d5");
  CHECK(hex(plain[2]) == "5919aa52f5974e36afe77591720b1e5e612cdd711822d21916b2c7e33c25721b");
  const std::vector<SequenceHash> adapted = chain(counting_parent(), some_tokens(12), 4, bytes_of("lora:7"));
  CHECK(hex(adapted[0]) == "69891d7c1d96baf914b75d21ff4ebfc805ef2f8436ff8810ad6ae9d8048a6837");
  CHECK(hex(adapted[1]) == "7c504dd27faca0772405deffcba01abfbc5647a69fdbd4d799e8fcdc422c5836");
  CHECK(hex(adapted[2]) == "409741b2b9c94c6fee6b3d9a4fb4bb87256356657eae20af1ddd2d4a393d4224");
}

TEST_CASE("every block is the hash that the definition gives it, for small and large blocks and extras") {
  for (const std::uint32_t tokens_per_block : {1U, 3U, 16U, 64U, 256U, 1024U}) {
    for (const std::size_t extra_bytes : {std::size_t{0}, std::size_t{1}, std::size_t{40}, std::size_t{5000}}) {
      const std::vector<std::uint32_t> tokens = some_tokens(std::size_t{tokens_per_block} * 3);
      const std::vector<std::uint8_t> extra(extra_bytes, 0x5A);
      const std::vector<SequenceHash> hashes = chain(counting_parent(), tokens, tokens_per_block, extra);
      SequenceHash parent = counting_parent();
      for (std::size_t block = 0; block < hashes.size(); ++block) {
        parent = by_definition(parent, std::span(tokens).subspan(block * tokens_per_block, tokens_per_block), extra);
        CAPTURE(tokens_per_block);
        CAPTURE(extra_bytes);
        CHECK(hex(hashes[block]) == hex(parent));
      }
    }
  }
}

TEST_CASE("hashing can go on later from the last hash, as a sequence grows") {
  const std::vector<std::uint32_t> tokens = some_tokens(160);
  const std::vector<SequenceHash> whole = chain(counting_parent(), tokens, 16, {});
  const std::vector<SequenceHash> start = chain(counting_parent(), std::span(tokens).first(64), 16, {});
  const std::vector<SequenceHash> rest = chain(start.back(), std::span(tokens).subspan(64), 16, {});
  CHECK(std::equal(start.begin(), start.end(), whole.begin()));
  CHECK(std::equal(rest.begin(), rest.end(), whole.begin() + 4));
}

TEST_CASE("the parent, each token, the extra and the place of the block boundary all change the hash") {
  const std::vector<std::uint32_t> tokens = some_tokens(16);
  const SequenceHash original = chain(counting_parent(), tokens, 16, bytes_of("x"))[0];

  SequenceHash parent = counting_parent();
  parent[31] ^= 1;
  CHECK(chain(parent, tokens, 16, bytes_of("x"))[0] != original);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    std::vector<std::uint32_t> others = tokens;
    others[i] ^= 0x80000000U;
    CHECK(chain(counting_parent(), others, 16, bytes_of("x"))[0] != original);
  }
  CHECK(chain(counting_parent(), tokens, 16, {})[0] != original);
  CHECK(chain(counting_parent(), tokens, 16, bytes_of("y"))[0] != original);
  CHECK(chain(counting_parent(), tokens, 8, bytes_of("x"))[1] != original);
}

TEST_CASE("tokens cannot pass for extra bytes: every field has its length before it") {
  const std::vector<std::uint32_t> tokens = some_tokens(4);
  std::vector<std::uint8_t> last(4);
  std::memcpy(last.data(), &tokens[3], 4);
  const SequenceHash four = chain(counting_parent(), tokens, 4, {})[0];
  const SequenceHash three = chain(counting_parent(), std::span(tokens).first(3), 3, last)[0];
  CHECK(four != three);
}

TEST_CASE("sizes that do not fit together are refused with the numbers") {
  const std::vector<std::uint32_t> tokens = some_tokens(17);
  std::vector<SequenceHash> hashes(1);
  const kvtier::Status odd = kvtier::hash_tokens(counting_parent(), tokens, 16, {}, hashes);
  CHECK(odd.code() == Code::kInvalidValue);
  CHECK(odd.message().find("17 tokens given") != std::string::npos);
  CHECK(kvtier::hash_tokens(counting_parent(), tokens, 0, {}, hashes).code() == Code::kInvalidValue);
  CHECK(kvtier::hash_tokens(counting_parent(), tokens, 0x40000000U, {}, hashes).code() == Code::kInvalidValue);
  hashes.resize(2);
  CHECK(kvtier::hash_tokens(counting_parent(), std::span(tokens).first(16), 16, {}, hashes).code() ==
        Code::kInvalidValue);
  CHECK(kvtier::hash_tokens(counting_parent(), {}, 16, {}, {}).is_ok());
}

TEST_CASE("the parent may lie where the first hash is written") {
  const std::vector<std::uint32_t> tokens = some_tokens(32);
  std::vector<SequenceHash> hashes(2, counting_parent());
  REQUIRE(kvtier::hash_tokens(hashes[0], tokens, 16, {}, hashes).is_ok());
  CHECK(hashes == chain(counting_parent(), tokens, 16, {}));
}

TEST_CASE("several threads hash at once and all get the same") {
  const std::vector<std::uint32_t> tokens = some_tokens(16 * 64);
  const std::vector<SequenceHash> expected = chain(counting_parent(), tokens, 16, {});
  std::array<std::vector<SequenceHash>, 4> results;
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&result, &tokens] {
      result.resize(64);
      if (!kvtier::hash_tokens(counting_parent(), tokens, 16, {}, result)) result.clear();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == expected);
}
