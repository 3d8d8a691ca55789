#include "images/cut_blocks.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/try_reserve.h"
#include "images/block_slots.h"
#include "images/image_io.h"

namespace kvtier {
namespace {

// Rows of a transposed V are read as many as fit here: small enough to stay in the processor's cache.
constexpr std::uint64_t kBounceBytes = std::uint64_t{256} * 1024;
// Bytes between two rows that are read as well, for a system call costs more.
constexpr std::uint64_t kReadThroughBytes = 4096;

// Cells that follow each other in the image and whose tokens do in one block.
struct Run {
  std::uint32_t cell = 0;
  std::uint32_t count = 0;
  std::uint32_t token = 0;  // of the block
  std::byte* block = nullptr;
};

class Cutter {
 public:
  Cutter(const MemoryFile& file, const SectionShape& shape, const SectionPlace& place, const BlockSlots& slots)
      : shape_(shape), place_(place), slots_(slots), scatter_(file) {}

  Status cut(std::span<const BlockMove> moves) {
    if (Status status = find_runs(moves); !status.is_ok()) return status;
    if (runs_.empty()) return Status::ok();
    std::uint64_t base = 0;  // of the layer in a block
    for (std::size_t layer = 0; layer < shape_.layers.size(); ++layer) {
      const LayerRows& rows = shape_.layers[layer];
      read_rows(place_.k_offsets[layer], rows.k_row_bytes, base);
      base += tokens() * rows.k_row_bytes;
      if (shape_.kind == SectionKind::kLatent) continue;
      if (rows.v_element_bytes == 0) {
        read_rows(place_.v_offsets[layer], rows.v_row_bytes, base);
      } else if (Status status = read_columns(place_.v_offsets[layer], rows, base); !status.is_ok()) {
        return status;
      }
      base += tokens() * rows.v_row_bytes;
    }
    return scatter_.flush();
  }

 private:
  [[nodiscard]] std::uint64_t tokens() const noexcept { return slots_.tokens_per_block(); }

  Status find_runs(std::span<const BlockMove> moves) {
    if (Status status = try_reserve(runs_, moves.size() * (place_.cells.empty() ? 1 : tokens())); !status.is_ok()) {
      return status;
    }
    const std::uint64_t end = std::uint64_t{place_.first_position} + place_.cell_count;
    for (const BlockMove& move : moves) {
      const bool recurrent = shape_.kind == SectionKind::kRecurrent;
      const std::uint64_t first = recurrent ? place_.first_position + std::uint64_t{move.block} : move.block * tokens();
      if (first < place_.first_position || first + tokens() > end) {
        return Status(Code::kInvalidValue, "block " + std::to_string(move.block) + " has the positions from " +
                                               std::to_string(first) + " to " + std::to_string(first + tokens() - 1) +
                                               "; the image has those from " + std::to_string(place_.first_position) +
                                               " to " + std::to_string(end - 1));
      }
      add_block(static_cast<std::uint32_t>(first), slots_.at(move.slot));
    }
    // In the order of the file, whatever the order of the blocks.
    std::ranges::sort(runs_, {}, &Run::cell);
    return Status::ok();
  }

  void add_block(std::uint32_t first, std::byte* block) {
    if (place_.cells.empty()) {
      runs_.push_back({place_.cell_of(first), slots_.tokens_per_block(), 0, block});
      return;
    }
    for (std::uint32_t token = 0; token < slots_.tokens_per_block(); ++token) {
      const std::uint32_t cell = place_.cell_of(first + token);
      if (token != 0 && runs_.back().cell + runs_.back().count == cell) {
        ++runs_.back().count;
      } else {
        runs_.push_back({cell, 1, token, block});
      }
    }
  }

  void read_rows(std::uint64_t offset, std::uint64_t row_bytes, std::uint64_t base) {
    for (const Run& run : runs_) {
      scatter_.add(offset + run.cell * row_bytes, run.block + base + run.token * row_bytes, run.count * row_bytes);
    }
  }

  // Every row has an element of each cell: what lies between the first and the last cell that is wanted is read, some
  // rows at a time, and dealt out to the blocks.
  Status read_columns(std::uint64_t offset, const LayerRows& rows, std::uint64_t base) {
    const std::uint64_t element = rows.v_element_bytes;
    const std::uint64_t width = rows.v_row_bytes / element;
    const std::uint64_t first = runs_.front().cell;
    const std::uint64_t span = (runs_.back().cell + runs_.back().count - first) * element;
    const std::uint64_t whole = place_.cell_count * element;
    const std::uint64_t stride = whole - span <= kReadThroughBytes ? whole : span;
    const std::uint64_t at_once =
        std::clamp<std::uint64_t>(kBounceBytes / stride, 1, std::max<std::uint64_t>(width, 1));
    if (Status status = try_reserve(bounce_, at_once * stride); !status.is_ok()) return status;
    bounce_.resize(at_once * stride);
    for (std::uint64_t row = 0; row < width; row += at_once) {
      const std::uint64_t count = std::min(at_once, width - row);
      const std::uint64_t from = offset + row * whole + first * element;
      if (stride == whole) {
        scatter_.add(from, bounce_.data(), (count - 1) * whole + span);
      } else {
        for (std::uint64_t i = 0; i < count; ++i) scatter_.add(from + i * whole, bounce_.data() + i * stride, span);
      }
      if (Status status = scatter_.flush(); !status.is_ok()) return status;
      for (const Run& run : runs_) {
        std::byte* to = run.block + base + (row * tokens() + run.token) * element;
        const std::byte* source = bounce_.data() + (run.cell - first) * element;
        for (std::uint64_t i = 0; i < count; ++i, to += tokens() * element, source += stride) {
          std::memcpy(to, source, run.count * element);
        }
      }
    }
    return Status::ok();
  }

  const SectionShape& shape_;
  const SectionPlace& place_;
  const BlockSlots& slots_;
  ImageScatter scatter_;
  std::vector<Run> runs_;
  std::vector<std::byte> bounce_;
};

}  // namespace

Status cut_blocks(const MemoryFile& file, const SectionShape& shape, const SectionPlace& place, const Storage& storage,
                  std::span<const BlockMove> moves) {
  const Result<BlockSlots> slots = BlockSlots::make(storage, shape);
  if (!slots.is_ok()) return slots.status();
  std::vector<std::uint32_t> numbers;
  if (Status status = try_reserve(numbers, moves.size()); !status.is_ok()) return status;
  for (const BlockMove& move : moves) numbers.push_back(move.slot);
  if (Status status = slots.value().check(numbers); !status.is_ok()) return status;
  return Cutter(file, shape, place, slots.value()).cut(moves);
}

}  // namespace kvtier
