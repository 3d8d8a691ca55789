#include "images/llama/write_state.h"

#include <doctest/doctest.h>

#include "native/images/image_world.h"
#include "support/faulty-io/faulty_io.h"

using namespace kvtier;
using namespace kvtier::images_test;

namespace {

struct FaultsEnd {
  ~FaultsEnd() { FaultyIo::instance().set_faults({}); }
};

// The state as it would have been written after `tokens` tokens.
SyntheticState prefix_of(const SyntheticState& state, std::uint32_t tokens) {
  SyntheticState prefix = state;
  prefix.tokens = tokens;
  prefix.shuffle = 0;
  return prefix;
}

bool has_recurrent(const SyntheticState& state) {
  return state.sections.back().kind == SectionKind::kRecurrent;
}

}  // namespace

TEST_CASE("a state that is read, cut and written again has the same bytes") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    ImageWorld world(state);
    world.cut_all();
    const Bytes expected = StateWriter::write(state);
    for (const MemoryFileKind kind : {MemoryFile::create().value().kind(), MemoryFileKind::kTemporary}) {
      MemoryFile target = make_file(kind);
      const auto written = world.write(target, state.tokens);
      REQUIRE_MESSAGE(written.is_ok(), written.status().message());
      CHECK(written.value().size_bytes == expected.size());
      CHECK(contents(target) == expected);
    }
  }
}

TEST_CASE("every prefix has the bytes of a state written for it, from cells in any order") {
  for (const auto& [name, state] : all_states()) {
    // A state of recurrent layers is one position's.
    if (has_recurrent(state)) continue;
    CAPTURE(std::string(name));
    for (const std::uint32_t seed : {0U, 1U, 2U}) {
      SyntheticState shuffled = state;
      shuffled.shuffle = seed;
      ImageWorld world(shuffled);
      world.cut_all();
      MemoryFile target = make_file();
      const std::uint32_t first = state.sections.back().first;
      for (std::uint32_t tokens = first + 1; tokens <= state.tokens; ++tokens) {
        CAPTURE(tokens);
        const auto written = world.write(target, tokens);
        REQUIRE_MESSAGE(written.is_ok(), written.status().message());
        CHECK(contents(target) == StateWriter::write(prefix_of(state, tokens)));
      }
    }
  }
}

TEST_CASE("a window of more cells than the engine would keep is written from its first block on") {
  const SyntheticState state{.tokens = 24, .sections = {{}, {.first = 5}}};
  ImageWorld world(state);
  world.cut_all();
  MemoryFile target = make_file();
  const auto written = world.write(target, 24);
  REQUIRE_MESSAGE(written.is_ok(), written.status().message());
  SyntheticState expected = state;
  expected.sections[1].first = 8;
  CHECK(contents(target) == StateWriter::write(expected));
}

TEST_CASE("states longer than what is put together at once are written whole") {
  for (const bool transposed : {false, true}) {
    // 9,000 cells: more blocks than the caches have lines for a row of a transposed V.
    const SyntheticState state{.tokens = 9000, .sections = {{.transposed = transposed}}};
    ImageWorld world(state);
    world.storages[0] = make_slots(world.image.shape.sections[0], 2250);
    std::vector<BlockMove> moves;
    std::vector<std::uint32_t> slots;
    std::vector<SequenceHash> hashes;
    for (std::uint32_t block = 0; block < 2250; ++block) {
      slots.push_back((block * 7) % 2250);
      hashes.push_back(hash_of(block));
      moves.push_back({block, slots.back()});
    }
    REQUIRE(world.cut(0, moves).is_ok());
    const BlockSource source{world.storages[0].get(), 0, slots, hashes};
    MemoryFile target = make_file();
    const auto written = llama::write_state(target, world.image.shape, world.image.tokens, {&source, 1});
    REQUIRE_MESSAGE(written.is_ok(), written.status().message());
    CHECK(contents(target) == StateWriter::write(state));
  }
}

TEST_CASE("a recurrent state is written at the last token, whatever was cut after it") {
  SyntheticState state{
      .sections = {
          {},
          {.kind = SectionKind::kRecurrent, .model_layers = 5, .first = 15, .layers = std::vector<SyntheticLayer>(2)}}};
  ImageWorld world(state);
  world.cut_all();
  MemoryFile target = make_file();
  // The state of position 9, for the bytes do not say which.
  const auto written = world.write(target, 10);
  REQUIRE_MESSAGE(written.is_ok(), written.status().message());
  const auto read = llama::read_state(target, state.kinds(), 16);
  REQUIRE(read.is_ok());
  CHECK(read.value().sections[0].cell_count == 10);
  CHECK(read.value().sections[1].first_position == 9);
}

TEST_CASE("a file that is written again keeps nothing of what was longer before") {
  const SyntheticState state;
  ImageWorld world(state);
  world.cut_all();
  MemoryFile target = make_file();
  for (const std::uint32_t tokens : {16U, 4U, 12U, 16U}) {
    REQUIRE(world.write(target, tokens).is_ok());
    CHECK(contents(target) == StateWriter::write(prefix_of(state, tokens)));
  }
}

TEST_CASE("a flipped bit, another hash and a checksum that was never made are found, and nothing is written") {
  const SyntheticState state{.sections = {{}, {.first = 8}}};
  ImageWorld world(state);
  world.cut_all();
  MemoryFile target = make_file();
  put(target, StateWriter::write(state));
  const auto bad_of = [&](const std::vector<BlockSource>& sources) {
    const auto written = llama::write_state(target, world.image.shape, world.image.tokens, sources);
    REQUIRE(written.is_ok());
    CHECK(written.value().size_bytes == 0);
    CHECK(contents(target).empty());
    std::vector<std::pair<std::uint32_t, std::uint32_t>> bad;
    for (const auto& block : written.value().bad) bad.emplace_back(block.section, block.index);
    return bad;
  };
  using Pairs = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
  const ImageWorld::Lists lists = world.lists(16);
  slot_bytes(*world.storages[0], lists.slots[0][2])[100] ^= std::byte{1};
  slot_bytes(*world.storages[1], lists.slots[1][1]).back() ^= std::byte{128};
  CHECK(bad_of(lists.sources) == Pairs{{0, 2}, {1, 1}});
  slot_bytes(*world.storages[0], lists.slots[0][2])[100] ^= std::byte{1};
  slot_bytes(*world.storages[1], lists.slots[1][1]).back() ^= std::byte{128};
  ImageWorld::Lists other = world.lists(16);
  other.hashes[1][0][3] ^= 1;
  CHECK(bad_of(other.sources) == Pairs{{1, 0}});
  world.storages[0]->set_checksum(lists.slots[0][0], {});
  CHECK(bad_of(lists.sources) == Pairs{{0, 0}});
}

TEST_CASE("sources that do not fit the tokens or the shape are refused, and the file is empty") {
  const SyntheticState state{.sections = {{}, {.first = 8}}};
  ImageWorld world(state);
  world.cut_all();
  MemoryFile target = make_file();
  const auto refused = [&](const ImageWorld::Lists& lists, std::size_t tokens, Code code, const std::string& message) {
    put(target, StateWriter::write(state));
    const std::vector<std::uint32_t> all(tokens);
    const auto written = llama::write_state(target, world.image.shape, all, lists.sources);
    REQUIRE_FALSE(written.is_ok());
    CHECK(written.status().code() == code);
    CHECK(written.status().message() == message);
    CHECK(contents(target).empty());
  };
  const ImageWorld::Lists good = world.lists(16);
  refused(good, 0, Code::kInvalidValue, "0 tokens; a state has 1 to 2147483647");
  refused(good, 17, Code::kInvalidValue,
          "source 0: 4 blocks of 4 tokens from block 0 on do not end where 17 tokens do");
  refused(good, 12, Code::kInvalidValue,
          "source 0: 4 blocks of 4 tokens from block 0 on do not end where 12 tokens do");
  ImageWorld::Lists lists = world.lists(16);
  lists.sources[1].first_block = 4;
  refused(lists, 16, Code::kInvalidValue,
          "source 1: 2 blocks of 4 tokens from block 4 on do not end where 16 tokens do");
  lists.sources[1].first_block = 0xffffffff;
  refused(lists, 16, Code::kInvalidValue,
          "source 1: 2 blocks of 4 tokens from block 4294967295 on do not end where 16 tokens do");
  lists = world.lists(16);
  lists.sources.pop_back();
  refused(lists, 16, Code::kInvalidValue, "1 sources for 2 sections");
  lists = world.lists(16);
  lists.sources[0].hashes = lists.sources[0].hashes.first(3);
  refused(lists, 16, Code::kInvalidValue, "source 0: 3 hashes for 4 slots");
  lists = world.lists(16);
  lists.slots[0][1] = lists.slots[0][0];
  refused(lists, 16, Code::kSlotRepeated, "slot 23 is named twice");
  lists.slots[0][1] = 24;
  refused(lists, 16, Code::kSlotOutOfRange, "slot 24 was asked for; the storage has 24 slots");
  lists = world.lists(16);
  world.image.shape.version = 4;
  refused(lists, 16, Code::kInvalidValue, "the shape is of version 4; known are 2 to 3");
  world.image.shape.version = 3;
  world.image.shape.sections[0].layers.pop_back();
  refused(
      lists, 16, Code::kLayoutMismatch,
      "a block of the image's attention section has 160 bytes times 4; a slot holds 1 parts x 1 layers x 1 outer x 4 "
      "tokens x 240 bytes");
}

TEST_CASE("every call of the system that fails leaves an empty file, and the next state is whole") {
  const FaultsEnd end;
  for (const bool transposed : {false, true}) {
    const SyntheticState state{.tokens = 4000, .sections = {{.transposed = transposed}}};
    ImageWorld world(state);
    world.storages[0] = make_slots(world.image.shape.sections[0], 1000);
    std::vector<BlockMove> moves;
    std::vector<std::uint32_t> slots;
    std::vector<SequenceHash> hashes;
    for (std::uint32_t block = 0; block < 1000; ++block) {
      slots.push_back(block);
      hashes.push_back(hash_of(block));
      moves.push_back({block, block});
    }
    REQUIRE(world.cut(0, moves).is_ok());
    const BlockSource source{world.storages[0].get(), 0, slots, hashes};
    // Memory that is mapped makes no call that could fail halfway.
    MemoryFile target = make_file(MemoryFileKind::kTemporary);
    const Bytes expected = StateWriter::write(state);
    std::uint64_t failed = 0;
    for (std::uint64_t nth = 1;; ++nth) {
      FaultyIo::instance().set_faults({.fail_call = nth});
      const auto written = llama::write_state(target, world.image.shape, world.image.tokens, {&source, 1});
      if (FaultyIo::instance().faults() == 0) {
        REQUIRE(written.is_ok());
        break;
      }
      ++failed;
      REQUIRE_FALSE(written.is_ok());
      CHECK(written.status().code() == Code::kIo);
      FaultyIo::instance().set_faults({});
      CHECK(contents(target).empty());
    }
    CHECK(failed == 2);
    FaultyIo::instance().set_faults({});
    CHECK(contents(target) == expected);

    FaultyIo::instance().set_faults({.write_no_space = 1});
    CHECK(llama::write_state(target, world.image.shape, world.image.tokens, {&source, 1}).status().code() ==
          Code::kNoSpace);
    // Calls that move less than they were asked for are made again with the rest.
    FaultyIo::instance().set_faults({.seed = 5, .short_read = 0.5, .short_write = 0.5});
    REQUIRE(llama::write_state(target, world.image.shape, world.image.tokens, {&source, 1}).is_ok());
    CHECK(contents(target) == expected);
    const auto read = llama::read_state(target, state.kinds(), 4000);
    REQUIRE(read.is_ok());
    CHECK(cut_blocks(target, read.value().shape.sections[0], read.value().sections[0], *world.storages[0], moves)
              .is_ok());
    for (const BlockMove& move : moves) {
      const Bytes block = expected_block(state, 0, move.block * kTokensPerBlock, kTokensPerBlock);
      REQUIRE(std::memcmp(slot_bytes(*world.storages[0], move.slot).data(), block.data(), block.size()) == 0);
    }
    for (std::uint64_t nth = 1; nth < 12; ++nth) {
      FaultyIo::instance().set_faults({.fail_call = nth});
      const auto again = llama::read_state(target, state.kinds(), 4000);
      const Status status = again.is_ok() ? cut_blocks(target, again.value().shape.sections[0],
                                                       again.value().sections[0], *world.storages[0], moves)
                                          : again.status();
      CHECK(status.code() == Code::kIo);
    }
  }
}
