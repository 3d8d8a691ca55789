// A state image that was read: what it consists of, and where in its file the rows lie. Plain data. Any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "images/image_shape.h"

namespace kvtier {

// Where the bytes of a section lie. K of a layer is [cell][row]; V too, or [element][cell] where it is transposed. A
// recurrent section has one cell.
struct SectionPlace {
  std::uint32_t first_position = 0;
  std::uint32_t cell_count = 0;
  // The cell of position first_position + i; empty where that is cell i.
  std::vector<std::uint32_t> cells;
  // In the file, by layer. Latent: no V.
  std::vector<std::uint64_t> k_offsets;
  std::vector<std::uint64_t> v_offsets;

  [[nodiscard]] std::uint32_t cell_of(std::uint32_t position) const noexcept {
    const std::uint32_t i = position - first_position;
    return cells.empty() ? i : cells[i];
  }
};

struct Image {
  ImageShape shape;
  std::vector<std::uint32_t> tokens;
  std::vector<SectionPlace> sections;  // as many as the shape has
};

}  // namespace kvtier
