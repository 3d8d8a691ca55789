#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "native/images/image_world.h"

using namespace kvtier;
using namespace kvtier::images_test;

namespace {

// Fewer in CI, whose time is limited: `npm test` and `npm run test:sanitize` take them all.
int case_count() {
  const char* const tests = std::getenv("KVTIER_UNIT_TESTS");
  return tests != nullptr && std::string(tests) == "sanitized" ? 20'000 : 100'000;
}

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t end) {
  return static_cast<std::size_t>(random() % std::max<std::size_t>(end, 1));
}

// Numbers on which sizes overflow, wrap or become huge; and what the format knows.
std::uint32_t extreme(Random& random) {
  constexpr std::uint32_t kExtremes[] = {0,          1,          2,          3,          15,         17,
                                         255,        256,        257,        4095,       4096,       4097,
                                         0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 0x40000000, 0x3fffffff,
                                         0x10000,    0x55555556, 0x2aaaaaab, 0x67677371};
  return kExtremes[below(random, std::size(kExtremes))];
}

// Where numbers are, mostly: headers are words apart, and payload begins on any byte.
std::size_t place(Random& random, const Bytes& bytes) {
  const bool in_front = below(random, 2) == 0;
  return below(random, in_front ? std::min<std::size_t>(bytes.size(), 320) : bytes.size());
}

void mutate(Bytes& bytes, const std::vector<Bytes>& others, Random& random) {
  if (bytes.empty()) return;
  switch (below(random, 7)) {
    case 0:
      bytes[place(random, bytes)] ^= std::byte{1} << below(random, 8);
      return;
    case 1: {
      const std::uint32_t value = extreme(random);
      const std::size_t at = place(random, bytes) / 4 * 4;
      std::memcpy(bytes.data() + at, &value, std::min<std::size_t>(4, bytes.size() - at));
      return;
    }
    case 2: {  // a number a little wrong
      const std::size_t at = place(random, bytes) / 4 * 4;
      if (at + 4 > bytes.size()) return;
      std::uint32_t value = 0;
      std::memcpy(&value, bytes.data() + at, 4);
      value += static_cast<std::uint32_t>(below(random, 5)) - 2;
      std::memcpy(bytes.data() + at, &value, 4);
      return;
    }
    case 3:  // the beginning of one and the end of another
    {
      const Bytes& other = others[below(random, others.size())];
      bytes.resize(below(random, bytes.size()));
      bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(below(random, other.size())), other.end());
      return;
    }
    case 4:
      bytes.resize(below(random, bytes.size()));
      return;
    case 5: {  // something taken out or put in twice
      const std::size_t at = place(random, bytes);
      const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(at);
      const std::size_t length = std::min(below(random, 64) + 1, bytes.size() - at);
      if (below(random, 2) == 0) {
        bytes.erase(from, from + static_cast<std::ptrdiff_t>(length));
      } else {
        const Bytes again(from, from + static_cast<std::ptrdiff_t>(length));
        bytes.insert(from, again.begin(), again.end());
      }
      return;
    }
    default: {  // two words change places
      const std::size_t a = place(random, bytes) / 4 * 4;
      const std::size_t b = place(random, bytes) / 4 * 4;
      if (std::max(a, b) + 4 > bytes.size()) return;
      std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(a),
                       bytes.begin() + static_cast<std::ptrdiff_t>(a + 4),
                       bytes.begin() + static_cast<std::ptrdiff_t>(b));
      return;
    }
  }
}

struct Counts {
  int refused = 0;
  int equal = 0;
  int other_order = 0;
  int other_cut = 0;
};

// Whether whole blocks say all that the image does.
bool is_whole(const Image& image) {
  for (std::size_t i = 0; i < image.sections.size(); ++i) {
    const SectionPlace& place = image.sections[i];
    const std::uint64_t end = std::uint64_t{place.first_position} + place.cell_count;
    if (end != image.tokens.size()) return false;
    if (image.shape.sections[i].kind == SectionKind::kRecurrent) continue;
    if (place.first_position % kTokensPerBlock != 0 || place.cell_count % kTokensPerBlock != 0) return false;
    if (end > std::uint64_t{kSlots} * kTokensPerBlock) return false;
  }
  return true;
}

void check_accepted(const Bytes& bytes, const std::vector<SectionKind>& kinds, Counts& counts) {
  ImageWorld world(bytes, kinds);
  if (!is_whole(world.image)) {
    // Its blocks, if there are any, can be cut all the same.
    ++counts.other_cut;
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      std::vector<BlockMove> moves = world.whole_blocks(i, ~0U);
      std::erase_if(moves, [](const BlockMove& move) { return move.slot >= kSlots; });
      const Status status = world.cut(i, moves);
      REQUIRE_MESSAGE(status.is_ok(), status.message());
    }
    return;
  }
  world.cut_all();
  MemoryFile target = make_file();
  const auto written = world.write(target, static_cast<std::uint32_t>(world.image.tokens.size()));
  REQUIRE_MESSAGE(written.is_ok(), written.status().message());
  const bool in_order =
      std::ranges::all_of(world.image.sections, [](const SectionPlace& place) { return place.cells.empty(); });
  REQUIRE(contents(target).size() == bytes.size());
  if (in_order) {
    REQUIRE(contents(target) == bytes);
    ++counts.equal;
    return;
  }
  // The same cells in order: written once more nothing changes.
  ImageWorld again(contents(target), kinds);
  REQUIRE(again.image.shape == world.image.shape);
  REQUIRE(again.image.tokens == world.image.tokens);
  again.cut_all();
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    for (const BlockMove& move : again.whole_blocks(i, ~0U)) {
      const auto before = slot_bytes(*world.storages[i], move.slot);
      const auto after = slot_bytes(*again.storages[i], move.slot);
      REQUIRE(std::ranges::equal(before, after));
    }
  }
  ++counts.other_order;
}

}  // namespace

TEST_CASE("images with faults in them end in an error, or in an image that is written again as it was") {
  const int cases = case_count();
  std::vector<NamedState> states = all_states();
  std::vector<Bytes> originals;
  for (NamedState& named : states) {
    // Small, so that faults hit numbers.
    for (SyntheticSection& section : named.state.sections) {
      for (SyntheticLayer& layer : section.layers) {
        layer.k_row = layer.k_row / 4 + 1;
        layer.v_row = (layer.v_row / 8 + 3) / 4 * 4;
      }
    }
    originals.push_back(StateWriter::write(named.state));
  }
  Random random(20'261'123);
  Counts counts;
  MemoryFile file = make_file();
  for (int i = 0; i < cases; ++i) {
    const std::size_t which = below(random, states.size());
    Bytes bytes = originals[which];
    for (std::size_t faults = below(random, 3) + 1; faults > 0; --faults) mutate(bytes, originals, random);
    const std::vector<SectionKind> kinds = states[which].state.kinds();
    CAPTURE(i);
    put(file, bytes);
    const auto image = llama::read_state(file, kinds, 1U << 20);
    if (image.is_ok()) {
      check_accepted(bytes, kinds, counts);
      continue;
    }
    ++counts.refused;
    REQUIRE(image.status().code() == Code::kBadImage);
    REQUIRE(image.status().message().starts_with("byte "));
  }
  std::printf("%d images with faults: %d refused, %d written again equal, %d in order, %d cut only\n", cases,
              counts.refused, counts.equal, counts.other_order, counts.other_cut);
  CHECK(counts.refused > cases / 2);
  CHECK(counts.equal > 1000);
  CHECK(counts.other_order > 0);
}

TEST_CASE("shape words with faults in them are refused, or are a shape's that gives the same words") {
  const int cases = case_count();
  const std::vector<NamedState> states = all_states();
  std::vector<std::vector<std::uint32_t>> originals;
  for (const NamedState& named : states) originals.push_back(ImageWorld(named.state).image.shape.to_words());
  Random random(4);
  int refused = 0;
  for (int i = 0; i < cases; ++i) {
    std::vector<std::uint32_t> words = originals[below(random, originals.size())];
    for (std::size_t faults = below(random, 3) + 1; faults > 0; --faults) {
      if (words.empty()) break;
      switch (below(random, 4)) {
        case 0:
          words[below(random, words.size())] = extreme(random);
          break;
        case 1:
          words[below(random, words.size())] ^= 1U << below(random, 32);
          break;
        case 2:
          words.resize(below(random, words.size() + 1));
          break;
        default:
          words.insert(words.begin() + static_cast<std::ptrdiff_t>(below(random, words.size())), extreme(random));
      }
    }
    const auto shape = ImageShape::from_words(words);
    if (shape.is_ok()) {
      REQUIRE(shape.value().to_words() == words);
    } else {
      REQUIRE(shape.status().code() == Code::kInvalidValue);
      ++refused;
    }
  }
  CHECK(refused > cases / 2);
  CHECK(refused < cases);
}
