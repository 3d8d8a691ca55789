#include "images/llama/read_state.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "core/try_reserve.h"
#include "images/image_cursor.h"
#include "images/llama/state_format.h"
#include "layout/group_shape.h"

namespace kvtier::llama {
namespace {

constexpr std::uint32_t kAny = std::numeric_limits<std::uint32_t>::max();

class Reader {
 public:
  Reader(const MemoryFile& file, std::uint32_t max_tokens) : cursor_(file), max_tokens_(max_tokens) {}

  Result<Image> read(std::span<const SectionKind> kinds) {
    read_header();
    for (const SectionKind kind : kinds) {
      if (!cursor_.is_ok()) break;
      name_ = "section " + std::to_string(image_.sections.size()) + " (" + name_of(kind) + "): ";
      read_section(kind);
    }
    if (cursor_.is_ok() && cursor_.left() != 0) {
      cursor_.fail(cursor_.offset(), "the number of bytes after the last section", std::to_string(cursor_.left()), "0");
    }
    if (!cursor_.is_ok()) return cursor_.status();
    return std::move(image_);
  }

 private:
  [[nodiscard]] std::string in_section(const std::string& what) const { return name_ + what; }
  // "K of layer 3"
  [[nodiscard]] static std::string of_layer(const char* which, std::size_t layer) {
    return std::string(which) + " of layer " + std::to_string(layer);
  }

  void read_header() {
    static_cast<void>(cursor_.u32("the magic number", kMagic, kMagic));
    image_.shape.version = cursor_.u32("the version", kOldestVersion, kNewestVersion);
    const std::uint32_t count = cursor_.u32("the number of tokens", 0, max_tokens_);
    image_.tokens = cursor_.array<std::uint32_t>("the tokens", count);
  }

  void read_section(SectionKind kind) {
    const std::uint64_t begin = cursor_.offset();
    SectionShape section;
    section.kind = kind;
    SectionPlace place;
    if (kind == SectionKind::kRecurrent) {
      read_recurrent(section, place);
    } else {
      read_streams(section, place);
    }
    if (!cursor_.is_ok()) return;
    if (const Status status = section.validate(); !status.is_ok()) {
      cursor_.fail(begin, in_section("what follows"), "no cache (" + status.message() + ")", "one");
    }
    image_.shape.sections.push_back(std::move(section));
    image_.sections.push_back(std::move(place));
  }

  void read_streams(SectionShape& section, SectionPlace& place) {
    const std::uint64_t begin = cursor_.offset();
    section.streams = cursor_.u32(in_section("the number of streams"), 1, kMaxStreams);
    bool found = false;
    for (std::uint32_t stream = 0; stream < section.streams && cursor_.is_ok(); ++stream) {
      const std::string what = in_section("the number of cells of stream " + std::to_string(stream));
      // One stream has the sequence's cells.
      const std::uint32_t count = cursor_.u32(what, 0, found ? 0 : kMaxPosition);
      if (count == 0 || !cursor_.is_ok()) continue;
      found = true;
      section.stream = stream;
      place.cell_count = count;
      read_cells(section, place);
      read_rows(section, place);
    }
    if (!found) cursor_.fail(begin, in_section("the number of streams with cells"), "0", "1");
  }

  void read_cells(SectionShape& section, SectionPlace& place) {
    const std::uint64_t begin = cursor_.offset();
    const std::vector<Cell> cells = cursor_.array<Cell>(in_section("the cells"), place.cell_count);
    std::int32_t first = std::numeric_limits<std::int32_t>::max();
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const Cell& cell = cells[i];
      const std::uint64_t at = begin + i * sizeof(Cell);
      const auto of_cell = [&](const char* what) { return in_section(what) + " of cell " + std::to_string(i); };
      if (cell.position < 0) {
        return cursor_.fail(at, of_cell("the position"), std::to_string(cell.position), "0 or more");
      }
      if (cell.sequence_count != 1) {
        return cursor_.fail(at + 4, of_cell("the number of sequences"), std::to_string(cell.sequence_count), "1");
      }
      const std::int32_t least = i == 0 ? 0 : cells[0].sequence;
      const std::int32_t most = i == 0 ? static_cast<std::int32_t>(kMaxSequences) - 1 : least;
      if (cell.sequence < least || cell.sequence > most) {
        return cursor_.fail(at + 8, of_cell("the sequence"), std::to_string(cell.sequence),
                            i == 0 ? "0 to " + std::to_string(most) : std::to_string(most) + ", as of cell 0");
      }
      first = std::min(first, cell.position);
    }
    if (!cursor_.is_ok()) return;
    section.sequence = static_cast<std::uint32_t>(cells[0].sequence);
    place.first_position = static_cast<std::uint32_t>(first);
    order_cells(begin, cells, place);
  }

  // Positions are those from the first one on, each once, in whatever order the cells are.
  void order_cells(std::uint64_t begin, const std::vector<Cell>& cells, SectionPlace& place) {
    bool in_order = true;
    for (std::size_t i = 0; i < cells.size() && in_order; ++i) {
      in_order = static_cast<std::uint32_t>(cells[i].position) - place.first_position == i;
    }
    if (in_order) return;
    std::vector<std::uint32_t> order;
    if (Status status = try_reserve(order, cells.size()); !status.is_ok()) {
      return cursor_.fail(begin, in_section("the number of cells"), std::to_string(cells.size()), "fewer, for memory");
    }
    order.assign(cells.size(), kAny);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::uint32_t place_of_it = static_cast<std::uint32_t>(cells[i].position) - place.first_position;
      if (place_of_it >= cells.size() || order[place_of_it] != kAny) {
        return cursor_.fail(begin + i * sizeof(Cell), in_section("the position of cell " + std::to_string(i)),
                            std::to_string(cells[i].position),
                            "each position from " + std::to_string(place.first_position) + " to " +
                                std::to_string(place.first_position + (cells.size() - 1)) + " once");
      }
      order[place_of_it] = static_cast<std::uint32_t>(i);
    }
    place.cells = std::move(order);
  }

  // K of all layers, then V of all layers.
  void read_rows(SectionShape& section, SectionPlace& place) {
    section.transposed = cursor_.u32(in_section("whether V is transposed"), 0, 1) == 1;
    section.model_layers = cursor_.u32(in_section("the number of layers"), 1, kMaxImageLayers);
    for (std::size_t layer = 0; layer < section.model_layers && cursor_.is_ok(); ++layer) {
      LayerRows rows;
      read_row(of_layer("K", layer), place.cell_count, rows.k_type, rows.k_row_bytes, place.k_offsets);
      section.layers.push_back(rows);
    }
    if (section.kind == SectionKind::kLatent) return;
    for (std::size_t layer = 0; layer < section.layers.size() && cursor_.is_ok(); ++layer) {
      LayerRows& rows = section.layers[layer];
      if (section.transposed) {
        read_columns(of_layer("V", layer), place, rows);
      } else {
        read_row(of_layer("V", layer), place.cell_count, rows.v_type, rows.v_row_bytes, place.v_offsets);
      }
    }
  }

  // A type, the bytes of a row, and `count` rows.
  void read_row(const std::string& whose, std::uint64_t count, std::uint32_t& type, std::uint32_t& row_bytes,
                std::vector<std::uint64_t>& offsets) {
    type = cursor_.u32(in_section("the type of " + whose), 0, kMaxElementTypes - 1);
    row_bytes =
        static_cast<std::uint32_t>(cursor_.u64(in_section("the bytes of a row of " + whose), 0, kMaxBlockBytes));
    offsets.push_back(cursor_.skip(in_section("the rows of " + whose), count, row_bytes));
  }

  // A type, the bytes of an element, the number of rows, and the rows: one element of each cell.
  void read_columns(const std::string& whose, SectionPlace& place, LayerRows& rows) {
    rows.v_type = cursor_.u32(in_section("the type of " + whose), 0, kMaxElementTypes - 1);
    rows.v_element_bytes = cursor_.u32(in_section("the bytes of an element of " + whose), 1, 8);
    const std::uint32_t width = cursor_.u32(in_section("the number of rows of " + whose), 0,
                                            static_cast<std::uint32_t>(kMaxBlockBytes) / rows.v_element_bytes);
    rows.v_row_bytes = width * rows.v_element_bytes;
    place.v_offsets.push_back(cursor_.skip(in_section("the rows of " + whose), place.cell_count, rows.v_row_bytes));
  }

  // The last section. How many layers have a state is not written: half as many as there are entries, first all R.
  void read_recurrent(SectionShape& section, SectionPlace& place) {
    static_cast<void>(cursor_.u32(in_section("the number of cells"), 1, 1));
    place.cell_count = 1;
    place.first_position = cursor_.u32(in_section("the position"), 0, kMaxPosition);
    static_cast<void>(cursor_.u32(in_section("the number of sequences of the cell"), 0, 0));
    static_cast<void>(cursor_.u32(in_section("whether S is transposed"), 0, 0));
    section.model_layers = cursor_.u32(in_section("the number of layers"), 1, kMaxImageLayers);
    const std::uint64_t begin = cursor_.offset();
    std::vector<LayerRows> entries;
    std::vector<std::uint64_t> offsets;
    while (cursor_.is_ok() && cursor_.left() != 0 && entries.size() < std::size_t{2} * section.model_layers) {
      LayerRows& entry = entries.emplace_back();
      read_row("state " + std::to_string(entries.size() - 1), 1, entry.k_type, entry.k_row_bytes, offsets);
    }
    if (!cursor_.is_ok()) return;
    const std::size_t layers = entries.size() / 2;
    if (layers == 0 || entries.size() % 2 != 0) {
      cursor_.fail(begin, in_section("the number of states"), std::to_string(entries.size()), "two a layer");
      return;
    }
    for (std::size_t i = 0; i < layers; ++i) {
      const LayerRows& r = entries[i];
      const LayerRows& s = entries[layers + i];
      section.layers.push_back({r.k_type, r.k_row_bytes, s.k_type, s.k_row_bytes, 0});
    }
    const auto middle = offsets.begin() + static_cast<std::ptrdiff_t>(layers);
    place.k_offsets.assign(offsets.begin(), middle);
    place.v_offsets.assign(middle, offsets.end());
  }

  ImageCursor cursor_;
  std::uint32_t max_tokens_;
  Image image_;
  std::string name_;
};

}  // namespace

Result<Image> read_state(const MemoryFile& file, std::span<const SectionKind> kinds, std::uint32_t max_tokens) {
  if (Status status = check_kinds(kinds); !status.is_ok()) return status;
  return Reader(file, max_tokens).read(kinds);
}

}  // namespace kvtier::llama
