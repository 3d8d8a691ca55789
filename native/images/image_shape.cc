#include "images/image_shape.h"

#include <string>
#include <utility>

#include "layout/group_shape.h"

namespace kvtier {
namespace {

// The first word: what these words are, and their own version.
constexpr std::uint32_t kMark = 0x4b564901;
constexpr std::size_t kImageWords = 3;
constexpr std::size_t kSectionWords = 7;
constexpr std::size_t kLayerWords = 5;

Status wrong(const std::string& why) {
  return Status(Code::kBadImage, why);
}

Status wrong_words(const std::string& why) {
  return Status(Code::kInvalidValue, "shape is not one that a read image had: " + why);
}

Status out_of_range(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  return wrong(std::string(what) + " is " + std::to_string(value) + "; expected " + std::to_string(least) + " to " +
               std::to_string(most));
}

Status check_rows(const SectionShape& section, const LayerRows& rows) {
  if (rows.k_type >= kMaxElementTypes) return out_of_range("an element type", rows.k_type, 0, kMaxElementTypes - 1);
  if (rows.v_type >= kMaxElementTypes) return out_of_range("an element type", rows.v_type, 0, kMaxElementTypes - 1);
  const std::uint32_t element = rows.v_element_bytes;
  if (section.kind == SectionKind::kLatent && (rows.v_type != 0 || rows.v_row_bytes != 0 || element != 0)) {
    return wrong("a latent layer has a row of V");
  }
  const bool has_elements = section.transposed && section.kind == SectionKind::kAttention;
  if (!has_elements) {
    return element == 0 ? Status::ok() : wrong("a layer that is not transposed has a size of V's elements");
  }
  if (element != 1 && element != 2 && element != 4 && element != 8) {
    return wrong("the bytes of an element of V are " + std::to_string(element) + "; expected 1, 2, 4 or 8");
  }
  if (rows.v_row_bytes % element != 0) return wrong("a row of V has no whole number of elements");
  return Status::ok();
}

Status check_recurrent(const SectionShape& section) {
  if (section.streams != 0 || section.stream != 0 || section.sequence != 0 || section.transposed) {
    return wrong("a recurrent state has streams, a sequence or a transposition");
  }
  if (section.model_layers > kMaxImageLayers) {
    return out_of_range("the number of the model's layers", section.model_layers, 1, kMaxImageLayers);
  }
  if (section.layers.size() > section.model_layers) {
    return out_of_range("the number of layers with a state", section.layers.size(), 1, section.model_layers);
  }
  for (const LayerRows& rows : section.layers) {
    if (!(rows == section.layers.front())) return wrong("layers with a state have rows of different sizes");
  }
  // The format does not say where R ends and S begins.
  const LayerRows& rows = section.layers.front();
  if (rows.k_type == rows.v_type && rows.k_row_bytes == rows.v_row_bytes) return wrong("rows of R and S are alike");
  return Status::ok();
}

Status check_cells(const SectionShape& section) {
  if (section.streams == 0 || section.streams > kMaxStreams) {
    return out_of_range("the number of streams", section.streams, 1, kMaxStreams);
  }
  if (section.stream >= section.streams) {
    return out_of_range("the stream with cells", section.stream, 0, section.streams - 1);
  }
  if (section.sequence >= kMaxSequences) {
    return out_of_range("the sequence of a cell", section.sequence, 0, kMaxSequences - 1);
  }
  if (section.model_layers != section.layers.size()) return wrong("the numbers of layers differ");
  return Status::ok();
}

}  // namespace

std::uint64_t SectionShape::bytes_per_token() const noexcept {
  std::uint64_t bytes = 0;
  for (const LayerRows& rows : layers) bytes += std::uint64_t{rows.k_row_bytes} + rows.v_row_bytes;
  return bytes;
}

Status SectionShape::validate() const {
  if (layers.empty() || layers.size() > kMaxImageLayers) {
    return out_of_range("the number of layers", layers.size(), 1, kMaxImageLayers);
  }
  const Status status = kind == SectionKind::kRecurrent ? check_recurrent(*this) : check_cells(*this);
  if (!status.is_ok()) return status;
  for (const LayerRows& rows : layers) {
    if (Status bad = check_rows(*this, rows); !bad.is_ok()) return bad;
  }
  const std::uint64_t bytes = bytes_per_token();
  if (bytes == 0 || bytes > kMaxBlockBytes) return out_of_range("the bytes of a token", bytes, 1, kMaxBlockBytes);
  return Status::ok();
}

std::vector<std::uint32_t> ImageShape::to_words() const {
  std::vector<std::uint32_t> words = {kMark, version, static_cast<std::uint32_t>(sections.size())};
  for (const SectionShape& section : sections) {
    words.insert(words.end(), {static_cast<std::uint32_t>(section.kind), section.streams, section.stream,
                               section.sequence, section.transposed ? 1U : 0U, section.model_layers,
                               static_cast<std::uint32_t>(section.layers.size())});
    for (const LayerRows& rows : section.layers) {
      words.insert(words.end(), {rows.k_type, rows.k_row_bytes, rows.v_type, rows.v_row_bytes, rows.v_element_bytes});
    }
  }
  return words;
}

Result<ImageShape> ImageShape::from_words(std::span<const std::uint32_t> words) {
  if (words.size() < kImageWords || words[0] != kMark) return wrong_words("it does not begin as one");
  ImageShape shape;
  shape.version = words[1];
  const std::uint32_t count = words[2];
  if (count == 0 || count > kMaxSections) return wrong_words("it has " + std::to_string(count) + " sections");
  words = words.subspan(kImageWords);
  std::vector<SectionKind> kinds;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string which = "section " + std::to_string(i);
    if (words.size() < kSectionWords) return wrong_words("it ends in " + which);
    if (words[0] >= kSectionKindCount || words[4] > 1) return wrong_words(which + " is of no known kind");
    SectionShape section{.kind = static_cast<SectionKind>(words[0]),
                         .streams = words[1],
                         .stream = words[2],
                         .sequence = words[3],
                         .transposed = words[4] == 1,
                         .model_layers = words[5],
                         .layers = {}};
    const std::size_t layers = words[6];
    words = words.subspan(kSectionWords);
    if (layers > kMaxImageLayers || layers * kLayerWords > words.size()) return wrong_words("it ends in " + which);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const auto own = words.subspan(layer * kLayerWords, kLayerWords);
      section.layers.push_back({own[0], own[1], own[2], own[3], own[4]});
    }
    words = words.subspan(layers * kLayerWords);
    if (const Status status = section.validate(); !status.is_ok()) return wrong_words(which + ": " + status.message());
    kinds.push_back(section.kind);
    shape.sections.push_back(std::move(section));
  }
  if (!words.empty()) return wrong_words(std::to_string(words.size()) + " words follow its end");
  if (const Status status = check_kinds(kinds); !status.is_ok()) return wrong_words(status.message());
  return shape;
}

Status check_kinds(std::span<const SectionKind> kinds) {
  if (kinds.empty() || kinds.size() > kMaxSections) {
    return Status(Code::kInvalidValue, std::to_string(kinds.size()) + " sections were named; an image has 1 to " +
                                           std::to_string(kMaxSections));
  }
  for (const SectionKind kind : kinds.first(kinds.size() - 1)) {
    if (kind == SectionKind::kRecurrent) {
      return Status(Code::kInvalidValue, "a recurrent section was named before the last; its end is the image's end");
    }
  }
  return Status::ok();
}

const char* name_of(SectionKind kind) noexcept {
  switch (kind) {
    case SectionKind::kAttention:
      return "attention";
    case SectionKind::kLatent:
      return "latent";
    case SectionKind::kRecurrent:
      return "recurrent";
  }
  return "";
}

}  // namespace kvtier
