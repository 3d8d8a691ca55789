#include "images/cut_blocks.h"

#include <doctest/doctest.h>

#include "native/images/image_world.h"

using namespace kvtier;
using namespace kvtier::images_test;

namespace {

void check_blocks(const SyntheticState& state) {
  ImageWorld world(state);
  for (std::size_t i = 0; i < state.sections.size(); ++i) {
    const std::vector<BlockMove> moves = world.whole_blocks(i, ~0U);
    const Status status = world.cut(i, moves);
    REQUIRE_MESSAGE(status.is_ok(), status.message());
    REQUIRE(!moves.empty());
    for (const BlockMove& move : moves) {
      const Bytes expected = expected_block(state, i, move.block * kTokensPerBlock, kTokensPerBlock);
      const std::span<std::byte> found = slot_bytes(*world.storages[i], move.slot);
      REQUIRE(found.size() == expected.size());
      CHECK(std::memcmp(found.data(), expected.data(), expected.size()) == 0);
    }
  }
}

}  // namespace

TEST_CASE("blocks of every form of state have their bytes in canonical order") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    check_blocks(state);
  }
}

TEST_CASE("blocks are the same in whatever order the cells are") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    for (std::uint32_t seed = 1; seed < 5; ++seed) {
      SyntheticState shuffled = state;
      shuffled.shuffle = seed;
      check_blocks(shuffled);
    }
  }
}

TEST_CASE("one block out of many is cut, also where the rows of a transposed V lie far apart") {
  for (const bool transposed : {false, true}) {
    const SyntheticState state{.tokens = 6000, .sections = {{.transposed = transposed}}};
    ImageWorld world(state);
    for (const std::uint32_t block : {0U, 700U, 1499U}) {
      REQUIRE(world.cut(0, {{block, 3}}).is_ok());
      const Bytes expected = expected_block(state, 0, block * kTokensPerBlock, kTokensPerBlock);
      CHECK(std::memcmp(slot_bytes(*world.storages[0], 3).data(), expected.data(), expected.size()) == 0);
    }
  }
}

TEST_CASE("a cut writes nothing beside its slots") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    ImageWorld world(state);
    for (std::size_t i = 0; i < state.sections.size(); ++i) {
      const auto& storage = *world.storages[i];
      std::byte* const memory = slot_bytes(storage, 0).data();
      const std::size_t stride = storage.info().slot_stride;
      std::memset(memory, 0x5a, stride * kSlots);
      const bool recurrent = state.sections[i].kind == SectionKind::kRecurrent;
      REQUIRE(world.cut(i, {{recurrent ? 0U : 3U, 7}}).is_ok());
      for (std::size_t at = 0; at < stride * kSlots; ++at) {
        const bool own = at >= 7 * stride && at < 7 * stride + storage.info().shape.block_bytes();
        if (!own && memory[at] != std::byte{0x5a}) FAIL("byte " << at << " was written");
      }
    }
  }
}

TEST_CASE("what cannot be cut is refused and says why") {
  const SyntheticState state{.tokens = 18, .sections = {{}, {.first = 6}}};
  ImageWorld world(state);
  const auto refused = [&](std::size_t section, const std::vector<BlockMove>& moves, Code code,
                           const std::string& message) {
    const Status status = world.cut(section, moves);
    CHECK(status.code() == code);
    CHECK(status.message() == message);
  };
  refused(0, {{0, 1}, {4, 2}}, Code::kInvalidValue,
          "block 4 has the positions from 16 to 19; the image has those from 0 to 17");
  refused(0, {{0xffffffff, 2}}, Code::kInvalidValue,
          "block 4294967295 has the positions from 17179869180 to 17179869183; the image has those from 0 to 17");
  refused(1, {{1, 2}}, Code::kInvalidValue, "block 1 has the positions from 4 to 7; the image has those from 6 to 17");
  refused(0, {{0, kSlots}}, Code::kSlotOutOfRange, "slot 24 was asked for; the storage has 24 slots");
  refused(0, {{0, 5}, {1, 5}}, Code::kSlotRepeated, "slot 5 is named twice");
  CHECK(world.cut(0, {}).is_ok());

  const SyntheticState hybrid{
      .sections = {
          {.kind = SectionKind::kRecurrent, .model_layers = 1, .first = 15, .layers = std::vector<SyntheticLayer>(1)}}};
  ImageWorld recurrent(hybrid);
  CHECK(recurrent.cut(0, {{1, 0}}).code() == Code::kInvalidValue);
}

TEST_CASE("slots of another size or layout, and borrowed ones, are refused") {
  ImageWorld world(SyntheticState{});
  const SectionShape& section = world.image.shape.sections[0];
  const auto cut_into = [&](const Storage& storage) {
    return cut_blocks(world.file, section, world.image.sections[0], storage, std::vector<BlockMove>{{0, 0}}).code();
  };
  // 240 bytes a token: 3 layers of 48 and 32.
  REQUIRE(section.bytes_per_token() == 240);
  GroupShape shape{.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 4, .bytes_per_token = 40};
  const auto memory = [&](LayoutKind kind) {
    auto storage = MemoryStorage::allocate(kind, shape, 2, {});
    REQUIRE(storage.is_ok());
    return std::move(storage).value();
  };
  CHECK(cut_into(*memory(LayoutKind::kContiguous)) == Code::kOk);
  CHECK(cut_into(*memory(LayoutKind::kLayersKvOuter)) == Code::kInvalidValue);
  shape.parts = 3, shape.layers = 1;
  CHECK(cut_into(*memory(LayoutKind::kContiguous)) == Code::kOk);
  shape.bytes_per_token = 41;
  CHECK(cut_into(*memory(LayoutKind::kContiguous)) == Code::kLayoutMismatch);
  Bytes lent(2 * 4096);
  const std::span<std::byte> regions[] = {lent};
  shape = {.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 4, .bytes_per_token = 240};
  auto borrowed = MemoryStorage::borrow(LayoutKind::kContiguous, shape, 2, regions);
  if (borrowed.is_ok()) CHECK(cut_into(*borrowed.value()) == Code::kInvalidValue);
}

TEST_CASE("a file that became shorter is refused, and no byte is read beyond its end") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    ImageWorld world(state);
    const std::size_t last = state.sections.size() - 1;
    const auto size = world.file.size();
    REQUIRE(size.is_ok());
    for (const std::uint64_t length : {std::uint64_t{0}, size.value() / 2, size.value() - 1}) {
      REQUIRE(world.file.reserve(length).is_ok());
      // The last bytes belong to no cell where the last layer has no S, or another stream follows.
      const Status status = world.cut(last, world.whole_blocks(last, ~0U));
      if (length != size.value() - 1) CHECK(status.code() == Code::kBadImage);
    }
  }
}
