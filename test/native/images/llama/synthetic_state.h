// Sequence state files of llama.cpp as tests need them, written by a writer of their own: any number of sections, every
// byte of payload a function of where it belongs (section, layer, K or V, position, offset), whatever the order of the
// cells. One thread.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "images/image.h"
#include "platform/memory_file.h"

namespace kvtier::images_test {

using Bytes = std::vector<std::byte>;

struct SyntheticLayer {
  std::uint32_t k_type = 1;
  std::uint32_t k_row = 48;
  std::uint32_t v_type = 1;
  std::uint32_t v_row = 32;
};

struct SyntheticSection {
  SectionKind kind = SectionKind::kAttention;
  std::uint32_t streams = 1;
  std::uint32_t stream = 0;
  std::uint32_t sequence = 0;
  bool transposed = false;
  std::uint32_t element = 2;       // transposed: bytes of an element of V
  std::uint32_t model_layers = 0;  // recurrent
  std::uint32_t first = 0;         // first position; recurrent: the state's
  std::vector<SyntheticLayer> layers = {{}, {}, {}};
};

struct SyntheticState {
  std::uint32_t version = 3;
  std::uint32_t tokens = 16;  // attention and latent sections have the positions from `first` up to here
  std::vector<SyntheticSection> sections = {{}};
  std::uint32_t shuffle = 0;  // seed of the cells' order; 0: by position
  std::uint32_t content = 0;  // seed of the payload

  [[nodiscard]] std::vector<SectionKind> kinds() const {
    std::vector<SectionKind> kinds;
    for (const SyntheticSection& section : sections) kinds.push_back(section.kind);
    return kinds;
  }
};

inline std::byte payload_byte(std::uint32_t content, std::uint64_t section, std::uint64_t layer, std::uint64_t value,
                              std::uint64_t position, std::uint64_t offset) {
  std::uint64_t word = content + 1;
  for (const std::uint64_t part : {section, layer, value, position, offset})
    word = (word + part) * 0x9E3779B97F4A7C15 + 7;
  return static_cast<std::byte>(word >> 41);
}

class StateWriter {
 public:
  [[nodiscard]] static Bytes write(const SyntheticState& state) {
    StateWriter writer;
    writer.number(std::uint32_t{0x67677371});
    writer.number(state.version);
    writer.number(state.tokens);
    for (std::uint32_t i = 0; i < state.tokens; ++i) writer.number(token(i));
    for (std::size_t i = 0; i < state.sections.size(); ++i) writer.section(state, i);
    return std::move(writer.bytes_);
  }
  [[nodiscard]] static std::uint32_t token(std::uint32_t position) { return position * 7 + 3; }

 private:
  template <typename T>
  void number(T value) {
    const auto* const begin = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), begin, begin + sizeof value);
  }

  void section(const SyntheticState& state, std::size_t index) {
    const SyntheticSection& section = state.sections[index];
    if (section.kind == SectionKind::kRecurrent) return recurrent(state, index);
    number(section.streams);
    for (std::uint32_t stream = 0; stream < section.streams; ++stream) {
      if (stream == section.stream) {
        cells(state, index);
      } else {
        number(std::uint32_t{0});
      }
    }
  }

  void cells(const SyntheticState& state, std::size_t index) {
    const SyntheticSection& section = state.sections[index];
    std::vector<std::uint32_t> positions(state.tokens - section.first);
    std::iota(positions.begin(), positions.end(), section.first);
    if (state.shuffle != 0) std::shuffle(positions.begin(), positions.end(), std::mt19937(state.shuffle));
    number(static_cast<std::uint32_t>(positions.size()));
    for (const std::uint32_t position : positions) {
      number(position);
      number(std::uint32_t{1});
      number(section.sequence);
    }
    number(std::uint32_t{section.transposed});
    number(static_cast<std::uint32_t>(section.layers.size()));
    const auto byte = [&](std::size_t layer, std::uint32_t value, std::uint32_t position, std::uint32_t offset) {
      bytes_.push_back(payload_byte(state.content, index, layer, value, position, offset));
    };
    for (std::size_t layer = 0; layer < section.layers.size(); ++layer) {
      const SyntheticLayer& rows = section.layers[layer];
      number(rows.k_type);
      number(std::uint64_t{rows.k_row});
      for (const std::uint32_t position : positions) {
        for (std::uint32_t offset = 0; offset < rows.k_row; ++offset) byte(layer, 0, position, offset);
      }
    }
    if (section.kind == SectionKind::kLatent) return;
    for (std::size_t layer = 0; layer < section.layers.size(); ++layer) {
      const SyntheticLayer& rows = section.layers[layer];
      number(rows.v_type);
      if (!section.transposed) {
        number(std::uint64_t{rows.v_row});
        for (const std::uint32_t position : positions) {
          for (std::uint32_t offset = 0; offset < rows.v_row; ++offset) byte(layer, 1, position, offset);
        }
        continue;
      }
      number(section.element);
      number(rows.v_row / section.element);
      for (std::uint32_t row = 0; row < rows.v_row; row += section.element) {
        for (const std::uint32_t position : positions) {
          for (std::uint32_t i = 0; i < section.element; ++i) byte(layer, 1, position, row + i);
        }
      }
    }
  }

  void recurrent(const SyntheticState& state, std::size_t index) {
    const SyntheticSection& section = state.sections[index];
    number(std::uint32_t{1});
    number(section.first);
    number(std::uint32_t{0});
    number(std::uint32_t{0});
    number(section.model_layers);
    for (const std::uint32_t value : {0U, 1U}) {
      for (std::size_t layer = 0; layer < section.layers.size(); ++layer) {
        const SyntheticLayer& rows = section.layers[layer];
        number(value == 0 ? rows.k_type : rows.v_type);
        const std::uint32_t length = value == 0 ? rows.k_row : rows.v_row;
        number(std::uint64_t{length});
        for (std::uint32_t offset = 0; offset < length; ++offset) {
          bytes_.push_back(payload_byte(state.content, index, layer, value, section.first, offset));
        }
      }
    }
  }

  Bytes bytes_;
};

// A block's bytes in canonical order, as a slot has them.
inline Bytes expected_block(const SyntheticState& state, std::size_t index, std::uint32_t first, std::uint32_t count) {
  const SyntheticSection& section = state.sections[index];
  Bytes bytes;
  const bool recurrent = section.kind == SectionKind::kRecurrent;
  if (recurrent) first = section.first, count = 1;
  const std::size_t layers = section.layers.size();
  const auto rows = [&](std::size_t layer, std::uint32_t value, std::uint32_t row) {
    for (std::uint32_t position = first; position < first + count; ++position) {
      for (std::uint32_t i = 0; i < row; ++i) {
        bytes.push_back(payload_byte(state.content, index, layer, value, position, i));
      }
    }
  };
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const SyntheticLayer& own = section.layers[layer];
    rows(layer, 0, own.k_row);
    if (section.kind == SectionKind::kLatent) continue;
    if (!section.transposed) {
      rows(layer, 1, own.v_row);
      continue;
    }
    for (std::uint32_t row = 0; row < own.v_row; row += section.element) {
      for (std::uint32_t position = first; position < first + count; ++position) {
        for (std::uint32_t i = 0; i < section.element; ++i) {
          bytes.push_back(payload_byte(state.content, index, layer, 1, position, row + i));
        }
      }
    }
  }
  return bytes;
}

inline MemoryFile make_file(std::optional<MemoryFileKind> kind = {}) {
  auto file = kind ? MemoryFile::create(*kind) : MemoryFile::create();
  REQUIRE_MESSAGE(file.is_ok(), file.status().message());
  return std::move(file).value();
}

// The file holds exactly that.
inline void put(MemoryFile& file, std::span<const std::byte> bytes) {
  file.clear();
  if (bytes.empty()) return;
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Status status = file.write(0, {&part, 1});
  REQUIRE_MESSAGE(status.is_ok(), status.message());
}

inline Bytes contents(const MemoryFile& file) {
  const auto size = file.size();
  REQUIRE(size.is_ok());
  Bytes bytes(size.value());
  iovec part{bytes.data(), bytes.size()};
  const auto moved = file.read(0, {&part, 1});
  REQUIRE(moved.is_ok());
  REQUIRE(moved.value() == bytes.size());
  return bytes;
}

// States of every form that is read, small.
struct NamedState {
  const char* name;
  SyntheticState state;
};
inline std::vector<NamedState> all_states() {
  const SyntheticLayer quantised{.k_type = 8, .k_row = 34, .v_type = 8, .v_row = 68};
  const SyntheticLayer wide{.k_type = 1, .k_row = 96, .v_type = 1, .v_row = 64};
  const SyntheticSection recurrent{.kind = SectionKind::kRecurrent,
                                   .model_layers = 6,
                                   .first = 15,
                                   .layers = {4, {.k_type = 0, .k_row = 40, .v_type = 0, .v_row = 72}}};
  const SyntheticSection no_s{.kind = SectionKind::kRecurrent,
                              .model_layers = 6,
                              .first = 15,
                              .layers = {4, {.k_type = 0, .k_row = 40, .v_type = 0, .v_row = 0}}};
  return {
      {"one cache", {}},
      {"version 2", {.version = 2}},
      {"three streams, the second in use", {.sections = {{.streams = 3, .stream = 1, .sequence = 1}}}},
      {"transposed", {.sections = {{.transposed = true}}}},
      {"transposed, elements of 4 bytes, three streams",
       {.sections = {{.streams = 3, .stream = 2, .sequence = 2, .transposed = true, .element = 4}}}},
      {"quantised rows", {.sections = {{.layers = {3, quantised}}}}},
      {"rows of different sizes", {.sections = {{.layers = {{}, wide, {}}}}}},
      {"latent", {.sections = {{.kind = SectionKind::kLatent, .layers = {2, {.v_type = 0, .v_row = 0}}}}}},
      {"two caches, the second a window", {.sections = {{}, {.first = 8, .layers = {2, wide}}}}},
      {"hybrid", {.sections = {{}, recurrent}}},
      {"hybrid, transposed, without S", {.sections = {{.transposed = true}, no_s}}},
      {"two caches and a state", {.version = 2, .sections = {{}, {.first = 8}, recurrent}}},
      {"recurrent alone", {.sections = {recurrent}}},
  };
}

}  // namespace kvtier::images_test
