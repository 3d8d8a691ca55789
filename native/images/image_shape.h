// What a state image consists of, without its tokens, its positions and its payload: enough to write the image of
// another prefix of the same model. It travels through JavaScript as words, so what comes back is checked as what an
// engine wrote. Pure arithmetic. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"

namespace kvtier {

enum class SectionKind : std::uint8_t {
  kAttention,  // cells, each with a row of K and a row of V in each layer
  kLatent,     // cells with one row in each layer
  kRecurrent,  // one state: two rows (R and S) in each layer that has one
};
inline constexpr std::uint32_t kSectionKindCount = 3;

inline constexpr std::uint32_t kMaxSections = 8;
inline constexpr std::uint32_t kMaxImageLayers = 4096;
inline constexpr std::uint32_t kMaxStreams = 256;
inline constexpr std::uint32_t kMaxSequences = 256;
inline constexpr std::uint32_t kMaxElementTypes = 256;

// The rows of one layer in one section. Latent: no V. Recurrent: R as K, S as V.
struct LayerRows {
  std::uint32_t k_type = 0;
  std::uint32_t k_row_bytes = 0;
  std::uint32_t v_type = 0;
  std::uint32_t v_row_bytes = 0;
  std::uint32_t v_element_bytes = 0;  // of a transposed V; otherwise 0

  friend bool operator==(const LayerRows&, const LayerRows&) = default;
};

struct SectionShape {
  SectionKind kind = SectionKind::kAttention;
  std::uint32_t streams = 0;       // that the cache has; recurrent: 0, as the next two
  std::uint32_t stream = 0;        // the one with the cells
  std::uint32_t sequence = 0;      // that the cells name
  bool transposed = false;         // V lies [embedding][cell], not [cell][embedding]
  std::uint32_t model_layers = 0;  // recurrent: of the whole model; otherwise layers.size()
  std::vector<LayerRows> layers;

  // Of all layers, K and V; recurrent: of the whole state.
  [[nodiscard]] std::uint64_t bytes_per_token() const noexcept;
  // Fails with kBadImage and says what is wrong.
  [[nodiscard]] Status validate() const;

  friend bool operator==(const SectionShape&, const SectionShape&) = default;
};

struct ImageShape {
  std::uint32_t version = 0;
  std::vector<SectionShape> sections;

  // Words: mark, version, number of sections; then a section after the other: kind, streams, stream, sequence,
  // transposed, model layers, number of layers, and five words a layer in the order of LayerRows.
  [[nodiscard]] std::vector<std::uint32_t> to_words() const;
  // Fails with kInvalidValue: nothing but what to_words() makes of a valid shape is taken. Versions are the engine's.
  [[nodiscard]] static Result<ImageShape> from_words(std::span<const std::uint32_t> words);

  friend bool operator==(const ImageShape&, const ImageShape&) = default;
};

// Kinds as an engine's sections may come: 1 to kMaxSections, a recurrent one last and once. Fails with kInvalidValue.
[[nodiscard]] Status check_kinds(std::span<const SectionKind> kinds);
[[nodiscard]] const char* name_of(SectionKind kind) noexcept;

}  // namespace kvtier
