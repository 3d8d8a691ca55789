#include "images/llama/read_state.h"

#include <doctest/doctest.h>

#include "native/images/llama/synthetic_state.h"

using namespace kvtier;
using namespace kvtier::images_test;

namespace {

constexpr std::uint32_t kTokens = 4096;

Result<Image> read(const Bytes& bytes, const std::vector<SectionKind>& kinds, std::uint32_t max_tokens = kTokens) {
  MemoryFile file = make_file();
  put(file, bytes);
  return llama::read_state(file, kinds, max_tokens);
}

// Where the first layer's header is in a state of one attention section without other streams.
constexpr std::size_t kStreams = 12 + 16 * 4;
constexpr std::size_t kCells = kStreams + 4;
constexpr std::size_t kMeta = kCells + 4;
constexpr std::size_t kRows = kMeta + 16 * 12;
constexpr std::size_t kFirstLayer = kRows + 8;
constexpr std::size_t kSecondLayer = kFirstLayer + 12 + 16 * 48;
constexpr std::size_t kFirstValue = kFirstLayer + 3 * (12 + 16 * 48);

template <typename T>
Bytes with(Bytes bytes, std::size_t offset, T value) {
  REQUIRE(offset + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  return bytes;
}

void check_refused(const Bytes& bytes, const std::vector<SectionKind>& kinds, const std::string& message) {
  CAPTURE(message);
  const auto image = read(bytes, kinds);
  REQUIRE_FALSE(image.is_ok());
  CHECK(image.status().code() == Code::kBadImage);
  CHECK(image.status().message() == message);
}

}  // namespace

TEST_CASE("a state of every form is read: its tokens, sections and rows") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    const auto image = read(StateWriter::write(state), state.kinds());
    REQUIRE_MESSAGE(image.is_ok(), image.status().message());
    CHECK(image.value().shape.version == state.version);
    REQUIRE(image.value().tokens.size() == state.tokens);
    for (std::uint32_t i = 0; i < state.tokens; ++i) CHECK(image.value().tokens[i] == StateWriter::token(i));
    REQUIRE(image.value().sections.size() == state.sections.size());
    for (std::size_t i = 0; i < state.sections.size(); ++i) {
      const SyntheticSection& written = state.sections[i];
      const SectionShape& shape = image.value().shape.sections[i];
      const SectionPlace& place = image.value().sections[i];
      const bool recurrent = written.kind == SectionKind::kRecurrent;
      CHECK(shape.kind == written.kind);
      CHECK(shape.transposed == written.transposed);
      CHECK(shape.streams == (recurrent ? 0 : written.streams));
      CHECK(shape.stream == written.stream);
      CHECK(shape.sequence == written.sequence);
      CHECK(place.first_position == written.first);
      CHECK(place.cell_count == (recurrent ? 1 : state.tokens - written.first));
      CHECK(place.cells.empty());
      REQUIRE(shape.layers.size() == written.layers.size());
      for (std::size_t layer = 0; layer < shape.layers.size(); ++layer) {
        CHECK(shape.layers[layer].k_type == written.layers[layer].k_type);
        CHECK(shape.layers[layer].k_row_bytes == written.layers[layer].k_row);
        CHECK(shape.layers[layer].v_type == written.layers[layer].v_type);
        CHECK(shape.layers[layer].v_row_bytes == written.layers[layer].v_row);
      }
    }
  }
}

TEST_CASE("cells may lie in any order") {
  for (std::uint32_t seed = 1; seed < 20; ++seed) {
    const SyntheticState state{.shuffle = seed};
    const auto image = read(StateWriter::write(state), state.kinds());
    REQUIRE_MESSAGE(image.is_ok(), image.status().message());
    CHECK(image.value().sections[0].cells.size() == state.tokens);
  }
}

TEST_CASE("the words of a shape give the same shape back") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    const auto image = read(StateWriter::write(state), state.kinds());
    REQUIRE(image.is_ok());
    const auto again = ImageShape::from_words(image.value().shape.to_words());
    REQUIRE_MESSAGE(again.is_ok(), again.status().message());
    CHECK(again.value() == image.value().shape);
  }
}

TEST_CASE("each number that is wrong is refused with its place, what it is and what was expected") {
  const SyntheticState state;
  const Bytes good = StateWriter::write(state);
  const auto refused = [&](const Bytes& bytes, const std::string& message) {
    check_refused(bytes, state.kinds(), message);
  };
  const std::string section = " of the state image: section 0 (attention): ";
  refused(with(good, 0, std::uint32_t{0x6767736e}),
          "byte 0 of the state image: the magic number is 1734833006; expected 1734833009");
  refused(with(good, 4, 1U), "byte 4 of the state image: the version is 1; expected 2 to 3");
  refused(with(good, 4, 4U), "byte 4 of the state image: the version is 4; expected 2 to 3");
  refused(with(good, 8, 4097U), "byte 8 of the state image: the number of tokens is 4097; expected 0 to 4096");
  refused(with(good, 8, 4096U), "byte 12 of the state image: the tokens would take 4096 times 4 bytes; 4184 are left");
  refused(with(good, kStreams, 0U), "byte 76" + section + "the number of streams is 0; expected 1 to 256");
  refused(with(good, kStreams, 257U), "byte 76" + section + "the number of streams is 257; expected 1 to 256");
  refused(with(good, kStreams, 2U),
          "byte 4196" + section + "the number of cells of stream 1 would take 1 times 4 bytes; 0 are left");
  refused(with(good, kCells, 0U), "byte 76" + section + "the number of streams with cells is 0; expected 1");
  refused(with(good, kCells, 0x80000000U),
          "byte 80" + section + "the number of cells of stream 0 is 2147483648; expected 0 to 2147483647");
  refused(with(good, kCells, 0x7fffffffU),
          "byte 84" + section + "the cells would take 2147483647 times 12 bytes; 4112 are left");
  refused(with(good, kMeta, -1), "byte 84" + section + "the position of cell 0 is -1; expected 0 or more");
  refused(with(good, kMeta, 1),
          "byte 96" + section + "the position of cell 1 is 1; expected each position from 1 to 16 once");
  refused(with(good, kMeta + 12, 99),
          "byte 96" + section + "the position of cell 1 is 99; expected each position from 0 to 15 once");
  refused(with(good, kMeta + 4, 0U), "byte 88" + section + "the number of sequences of cell 0 is 0; expected 1");
  refused(with(good, kMeta + 4, 2U), "byte 88" + section + "the number of sequences of cell 0 is 2; expected 1");
  refused(with(good, kMeta + 8, -1), "byte 92" + section + "the sequence of cell 0 is -1; expected 0 to 255");
  refused(with(good, kMeta + 8, 256), "byte 92" + section + "the sequence of cell 0 is 256; expected 0 to 255");
  refused(with(good, kMeta + 20, 1), "byte 104" + section + "the sequence of cell 1 is 1; expected 0, as of cell 0");
  refused(with(good, kRows, 2U), "byte 276" + section + "whether V is transposed is 2; expected 0 to 1");
  refused(with(good, kRows + 4, 0U), "byte 280" + section + "the number of layers is 0; expected 1 to 4096");
  refused(with(good, kRows + 4, 4097U), "byte 280" + section + "the number of layers is 4097; expected 1 to 4096");
  refused(with(good, kFirstLayer, 256U), "byte 284" + section + "the type of K of layer 0 is 256; expected 0 to 255");
  refused(
      with(good, kFirstLayer + 4, ~std::uint64_t{0}),
      "byte 288" + section + "the bytes of a row of K of layer 0 is 18446744073709551615; expected 0 to 1073741824");
  refused(with(good, kFirstLayer + 4, std::uint64_t{1} << 30),
          "byte 296" + section + "the rows of K of layer 0 would take 16 times 1073741824 bytes; 3900 are left");
  refused(with(good, kFirstValue, -1),
          "byte 2624" + section + "the type of V of layer 0 is 4294967295; expected 0 to 255");
}

TEST_CASE("rows of one size more or less do not fit the file") {
  const SyntheticState state;
  const Bytes good = StateWriter::write(state);
  for (const std::size_t offset : {kFirstLayer + 4, kSecondLayer + 4, kFirstValue + 4}) {
    for (const std::uint64_t row : {0, 1, 31, 33, 47, 49, 64, 96, 4096}) {
      const auto image = read(with(good, offset, row), state.kinds());
      REQUIRE_FALSE(image.is_ok());
      CHECK(image.status().code() == Code::kBadImage);
    }
  }
}

TEST_CASE("wrong numbers of a transposed cache and of a recurrent state are refused") {
  const SyntheticState transposed{.sections = {{.transposed = true}}};
  const Bytes columns = StateWriter::write(transposed);
  const std::string section = " of the state image: section 0 (attention): ";
  for (const std::uint32_t element : {0U, 9U}) {
    check_refused(with(columns, kFirstValue + 4, element), transposed.kinds(),
                  "byte 2628" + section + "the bytes of an element of V of layer 0 is " + std::to_string(element) +
                      "; expected 1 to 8");
  }
  check_refused(with(columns, kFirstValue + 8, 0x20000001U), transposed.kinds(),
                "byte 2632" + section + "the number of rows of V of layer 0 is 536870913; expected 0 to 536870912");
  // Half as many elements of twice the size are as long, but 3 is no size of an element.
  const auto odd = read(with(with(columns, kFirstValue + 4, 3U), kFirstValue + 8, 1U), transposed.kinds());
  CHECK(odd.status().code() == Code::kBadImage);

  const SyntheticState state{
      .sections = {
          {.kind = SectionKind::kRecurrent, .model_layers = 6, .first = 15, .layers = std::vector<SyntheticLayer>(2)}}};
  const Bytes good = StateWriter::write(state);
  const std::string recurrent = " of the state image: section 0 (recurrent): ";
  const auto refused = [&](const Bytes& bytes, const std::string& message) {
    check_refused(bytes, state.kinds(), message);
  };
  refused(with(good, 76, 0U), "byte 76" + recurrent + "the number of cells is 0; expected 1");
  refused(with(good, 76, 2U), "byte 76" + recurrent + "the number of cells is 2; expected 1");
  refused(with(good, 80, -1), "byte 80" + recurrent + "the position is 4294967295; expected 0 to 2147483647");
  refused(with(good, 84, 1U), "byte 84" + recurrent + "the number of sequences of the cell is 1; expected 0");
  refused(with(good, 88, 1U), "byte 88" + recurrent + "whether S is transposed is 1; expected 0");
  refused(with(good, 92, 0U), "byte 92" + recurrent + "the number of layers is 0; expected 1 to 4096");
  // Of two layers with states, one: what is left are the two R.
  refused(with(good, 92, 1U),
          "byte 76" + recurrent + "what follows is no cache (rows of R and S are alike); expected one");
  refused(with(good, 96, 300U), "byte 96" + recurrent + "the type of state 0 is 300; expected 0 to 255");
  refused(with(good, 96, 5U), "byte 76" + recurrent +
                                  "what follows is no cache (layers with a state have rows of different sizes); "
                                  "expected one");
  // Which rows are S cannot be told where they are like those of R.
  const SyntheticState alike{.sections = {{.kind = SectionKind::kRecurrent,
                                           .model_layers = 6,
                                           .first = 15,
                                           .layers = std::vector<SyntheticLayer>(2, {.k_row = 32, .v_row = 32})}}};
  check_refused(StateWriter::write(alike), alike.kinds(),
                "byte 76" + recurrent + "what follows is no cache (rows of R and S are alike); expected one");
}

TEST_CASE("what is not the sections that were named is refused") {
  const SyntheticState two{.sections = {{}, {.first = 8}}};
  const Bytes bytes = StateWriter::write(two);
  const auto one = read(bytes, {SectionKind::kAttention});
  CHECK(one.status().code() == Code::kBadImage);
  CHECK(one.status().message().find("the number of bytes after the last section is") != std::string::npos);
  const auto three = read(bytes, {SectionKind::kAttention, SectionKind::kAttention, SectionKind::kAttention});
  CHECK(three.status().code() == Code::kBadImage);
  CHECK(read(bytes, {SectionKind::kLatent, SectionKind::kAttention}).status().code() == Code::kBadImage);
  CHECK(read(bytes, {SectionKind::kAttention, SectionKind::kRecurrent}).status().code() == Code::kBadImage);
  CHECK(read(bytes, {}).status().code() == Code::kInvalidValue);
  CHECK(read(bytes, {SectionKind::kRecurrent, SectionKind::kAttention}).status().code() == Code::kInvalidValue);
  CHECK(read(bytes, std::vector(9, SectionKind::kAttention)).status().code() == Code::kInvalidValue);
}

TEST_CASE("cells with the fields of M-RoPE are refused") {
  Bytes bytes = StateWriter::write({});
  for (std::size_t cell = 16; cell-- > 0;) {
    const std::uint32_t fields[] = {static_cast<std::uint32_t>(cell), static_cast<std::uint32_t>(cell), 77};
    const auto* const begin = reinterpret_cast<const std::byte*>(fields);
    bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(kMeta + cell * 12 + 8), begin, begin + sizeof fields);
  }
  CHECK(read(bytes, {SectionKind::kAttention}).status().code() == Code::kBadImage);
}

TEST_CASE("two streams with cells are refused") {
  const SyntheticState one{.sections = {{.streams = 2}}};
  Bytes bytes = StateWriter::write(one);
  bytes.resize(bytes.size() - 4);
  const Bytes other = StateWriter::write({});
  bytes.insert(bytes.end(), other.begin() + kCells, other.end());
  const auto image = read(bytes, one.kinds());
  REQUIRE_FALSE(image.is_ok());
  CHECK(image.status().message().find("the number of cells of stream 1 is 16; expected 0") != std::string::npos);
}

TEST_CASE("an image that ends at any byte is refused") {
  for (const auto& [name, state] : all_states()) {
    CAPTURE(std::string(name));
    const Bytes good = StateWriter::write(state);
    MemoryFile file = make_file();
    put(file, good);
    for (std::size_t length = good.size(); length-- > 0;) {
      REQUIRE(file.reserve(length).is_ok());
      const auto image = llama::read_state(file, state.kinds(), kTokens);
      REQUIRE_FALSE(image.is_ok());
      REQUIRE(image.status().code() == Code::kBadImage);
    }
  }
}

TEST_CASE("an image that lacks one byte is refused for the rows that lack it") {
  Bytes bytes = StateWriter::write({});
  bytes.pop_back();
  check_refused(bytes, {SectionKind::kAttention},
                "byte 3684 of the state image: section 0 (attention): the rows of V of layer 2 would take 16 times 32 "
                "bytes; 511 are left");
}

TEST_CASE("more tokens than are allowed are refused, and fewer are not") {
  const SyntheticState state;
  CHECK(read(StateWriter::write(state), state.kinds(), 16).is_ok());
  CHECK(read(StateWriter::write(state), state.kinds(), 15).status().code() == Code::kBadImage);
}
