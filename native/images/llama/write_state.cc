#include "images/llama/write_state.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/try_reserve.h"
#include "images/llama/state_format.h"
#include "kernels/copy_block.h"
#include "memory/host_buffer.h"
#include "platform/system_memory.h"
#include "storage/verify.h"

namespace kvtier::llama {
namespace {

constexpr std::uint64_t kWord = sizeof(std::uint32_t);
constexpr std::uint64_t kRowHeader = sizeof(std::uint32_t) + sizeof(std::uint64_t);
constexpr std::uint64_t kColumnHeader = 3 * sizeof(std::uint32_t);

// A section and the blocks that it is made of.
struct Part {
  const SectionShape* shape = nullptr;
  const BlockSource* source = nullptr;
  std::optional<BlockSlots> slots;
  std::vector<const std::byte*> blocks;
  std::uint32_t first_position = 0;
  std::uint32_t cell_count = 0;

  [[nodiscard]] bool is_recurrent() const noexcept { return shape->kind == SectionKind::kRecurrent; }
  [[nodiscard]] std::uint64_t tokens() const noexcept { return slots->tokens_per_block(); }
  [[nodiscard]] std::uint64_t part_bytes() const noexcept { return source->storage->info().shape.part_bytes(); }
  // Tokens of a block that the state has.
  [[nodiscard]] std::uint64_t used(std::size_t block) const noexcept {
    return std::min(tokens(), cell_count - block * tokens());
  }

  [[nodiscard]] std::uint64_t size_bytes() const noexcept {
    const std::uint64_t payload = cell_count * shape->bytes_per_token();
    std::uint64_t headers = 0;
    for (const LayerRows& rows : shape->layers) {
      headers += kRowHeader;
      if (shape->kind != SectionKind::kLatent) headers += rows.v_element_bytes == 0 ? kRowHeader : kColumnHeader;
    }
    if (is_recurrent()) return 5 * kWord + headers + payload;
    return (1 + shape->streams) * kWord + cell_count * sizeof(Cell) + 2 * kWord + headers + payload;
  }
};

Status wrong(std::size_t section, const std::string& why) {
  return Status(Code::kInvalidValue, "source " + std::to_string(section) + ": " + why);
}

Result<Part> part_of(std::size_t number, const SectionShape& shape, const BlockSource& source,
                     std::uint32_t token_count) {
  Result<BlockSlots> slots = BlockSlots::make(*source.storage, shape);
  if (!slots.is_ok()) return slots.status();
  if (Status status = slots.value().check(source.slots); !status.is_ok()) return status;
  if (source.hashes.size() != source.slots.size()) {
    return wrong(
        number, std::to_string(source.hashes.size()) + " hashes for " + std::to_string(source.slots.size()) + " slots");
  }
  Part part;
  part.shape = &shape;
  part.source = &source;
  part.slots = slots.value();
  if (Status status = try_reserve(part.blocks, source.slots.size()); !status.is_ok()) return status;
  for (const std::uint32_t slot : source.slots) part.blocks.push_back(part.slots->at(slot));
  if (part.is_recurrent()) {
    if (source.slots.size() != 1 || source.first_block != 0) {
      return wrong(number, "a recurrent state is one slot, of block 0");
    }
    part.first_position = token_count - 1;
    part.cell_count = 1;
    return part;
  }
  const std::uint64_t first = source.first_block * part.tokens();
  const std::uint64_t held = source.slots.size() * part.tokens();
  if (first >= token_count || held < token_count - first || held - (token_count - first) >= part.tokens()) {
    return wrong(number, std::to_string(source.slots.size()) + " blocks of " + std::to_string(part.tokens()) +
                             " tokens from block " + std::to_string(source.first_block) + " on do not end where " +
                             std::to_string(token_count) + " tokens do");
  }
  part.first_position = static_cast<std::uint32_t>(first);
  part.cell_count = token_count - part.first_position;
  return part;
}

// All arguments, the words from JavaScript among them; nothing is written yet.
Result<std::vector<Part>> check_parts(const ImageShape& shape, std::span<const std::uint32_t> tokens,
                                      std::span<const BlockSource> sources) {
  if (shape.version < kOldestVersion || shape.version > kNewestVersion) {
    return Status(Code::kInvalidValue, "the shape is of version " + std::to_string(shape.version) + "; known are " +
                                           std::to_string(kOldestVersion) + " to " + std::to_string(kNewestVersion));
  }
  if (tokens.empty() || tokens.size() > kMaxPosition) {
    return Status(Code::kInvalidValue,
                  std::to_string(tokens.size()) + " tokens; a state has 1 to " + std::to_string(kMaxPosition));
  }
  if (sources.size() != shape.sections.size()) {
    return Status(Code::kInvalidValue, std::to_string(sources.size()) + " sources for " +
                                           std::to_string(shape.sections.size()) + " sections");
  }
  std::vector<Part> parts;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    Result<Part> part = part_of(i, shape.sections[i], sources[i], static_cast<std::uint32_t>(tokens.size()));
    if (!part.is_ok()) return part.status();
    parts.push_back(std::move(part).value());
  }
  return parts;
}

// Writes into the memory of a file, one header after the other, and then each block's rows to where they belong.
class Writer {
 public:
  explicit Writer(std::span<std::byte> image) : image_(image), stores_(stores_for(image.size())) {}

  std::vector<BadBlock> write(std::uint32_t version, std::span<const std::uint32_t> tokens,
                              std::span<const Part> parts) {
    number(kMagic);
    number(version);
    number(static_cast<std::uint32_t>(tokens.size()));
    std::memcpy(image_.data() + offset_, tokens.data(), tokens.size_bytes());
    offset_ += tokens.size_bytes();
    for (std::uint32_t section = 0; section < parts.size(); ++section) {
      if (parts[section].is_recurrent()) {
        write_recurrent(parts[section]);
      } else {
        write_streams(parts[section]);
      }
      write_blocks(section, parts[section]);
    }
    KVTIER_CHECK(offset_ == image_.size());
    return std::move(bad_);
  }

 private:
  template <typename T>
  void number(T value) noexcept {
    std::memcpy(image_.data() + offset_, &value, sizeof value);
    offset_ += sizeof value;
  }

  void write_streams(const Part& part) {
    number(part.shape->streams);
    for (std::uint32_t stream = 0; stream < part.shape->streams; ++stream) {
      if (stream == part.shape->stream) {
        write_cells(part);
      } else {
        number(std::uint32_t{0});
      }
    }
  }

  void write_cells(const Part& part) {
    number(part.cell_count);
    for (std::uint32_t i = 0; i < part.cell_count; ++i) {
      number(part.first_position + i);
      number(std::uint32_t{1});
      number(part.shape->sequence);
    }
    number(std::uint32_t{part.shape->transposed});
    number(static_cast<std::uint32_t>(part.shape->layers.size()));
    place_rows(part);
  }

  void write_recurrent(const Part& part) {
    number(std::uint32_t{1});
    number(part.first_position);
    number(std::uint32_t{0});
    number(std::uint32_t{0});
    number(part.shape->model_layers);
    place_rows(part);
  }

  // The headers of all layers; where their rows go is kept for write_blocks().
  void place_rows(const Part& part) {
    keys_.clear();
    values_.clear();
    for (const LayerRows& rows : part.shape->layers) {
      number(rows.k_type);
      number(std::uint64_t{rows.k_row_bytes});
      keys_.push_back(take(part.cell_count * std::uint64_t{rows.k_row_bytes}));
    }
    if (part.shape->kind == SectionKind::kLatent) return;
    for (const LayerRows& rows : part.shape->layers) {
      number(rows.v_type);
      if (rows.v_element_bytes == 0) {
        number(std::uint64_t{rows.v_row_bytes});
      } else {
        number(rows.v_element_bytes);
        number(rows.v_row_bytes / rows.v_element_bytes);
      }
      values_.push_back(take(part.cell_count * std::uint64_t{rows.v_row_bytes}));
    }
  }

  std::byte* take(std::uint64_t length) noexcept {
    std::byte* const begin = image_.data() + offset_;
    offset_ += length;
    return begin;
  }

  // Every block in one pass over its bytes, which verifies them; what is transposed comes afterwards.
  void write_blocks(std::uint32_t section, const Part& part) {
    const SectionShape& shape = *part.shape;
    for (std::uint32_t i = 0; i < part.blocks.size(); ++i) {
      CheckedCopy copy(stores_, seed_of(part.source->hashes[i]), part.part_bytes());
      const std::byte* from = part.blocks[i];
      const auto write_rows = [&](std::byte* rows, std::uint64_t row_bytes) {
        copy.copy(rows + i * part.tokens() * row_bytes, from, part.used(i) * row_bytes);
        skip(copy, from + part.used(i) * row_bytes, (part.tokens() - part.used(i)) * row_bytes);
        from += part.tokens() * row_bytes;
      };
      for (std::size_t layer = 0; layer < shape.layers.size(); ++layer) {
        const LayerRows& rows = shape.layers[layer];
        write_rows(keys_[layer], rows.k_row_bytes);
        if (shape.kind == SectionKind::kLatent) continue;
        if (rows.v_element_bytes == 0) {
          write_rows(values_[layer], rows.v_row_bytes);
        } else {
          skip(copy, from, part.tokens() * rows.v_row_bytes);
          from += part.tokens() * rows.v_row_bytes;
        }
      }
      const Checksum stored = part.source->storage->checksum_at(part.source->slots[i]);
      if (!checksum_matches(stored, copy.finish())) bad_.push_back({section, i});
    }
    if (bad_.empty()) write_columns(part);
  }

  static void skip(CheckedCopy& copy, const std::byte* from, std::uint64_t length) noexcept {
    if (length != 0) copy.skip(from, length);
  }

  void write_columns(const Part& part) {
    std::uint64_t base = 0;
    for (std::size_t layer = 0; layer < part.shape->layers.size(); ++layer) {
      const LayerRows& rows = part.shape->layers[layer];
      base += part.tokens() * rows.k_row_bytes;
      if (rows.v_element_bytes != 0) write_columns(part, base, rows, values_[layer]);
      base += part.tokens() * rows.v_row_bytes;
    }
  }

  // A row of the file has one element of every cell.
  static void write_columns(const Part& part, std::uint64_t base, const LayerRows& rows, std::byte* to) {
    const std::uint64_t element = rows.v_element_bytes;
    const std::uint64_t step = part.tokens() * element;
    for (std::uint64_t row = 0; row < rows.v_row_bytes / element; ++row) {
      for (std::size_t i = 0; i < part.blocks.size(); ++i) {
        const std::uint64_t length = part.used(i) * element;
        std::memcpy(to, part.blocks[i] + base + row * step, length);
        to += length;
      }
    }
  }

  std::span<std::byte> image_;
  Stores stores_;
  std::uint64_t offset_ = 0;
  std::vector<std::byte*> keys_;  // of the section that is written, by layer
  std::vector<std::byte*> values_;
  std::vector<BadBlock> bad_;
};

// Memory for the state, asked of the system before it is taken.
Status check_memory(const MemoryFile& file, std::uint64_t size_bytes) {
  const Result<std::uint64_t> present = file.size();
  if (!present.is_ok()) return present.status();
  // What a temporary file has is not where its state is put together.
  const std::uint64_t there = file.kind() == MemoryFileKind::kMemory ? present.value() : 0;
  if (size_bytes <= there) return Status::ok();
  return check_room(size_bytes - there, system_memory().available_bytes);
}

Result<WrittenState> write_parts(MemoryFile& file, const ImageShape& shape, std::span<const std::uint32_t> tokens,
                                 std::span<const BlockSource> sources) {
  const Result<std::vector<Part>> parts = check_parts(shape, tokens, sources);
  if (!parts.is_ok()) return parts.status();
  WrittenState written;
  std::uint64_t size_bytes = 3 * kWord + tokens.size_bytes();
  for (const Part& part : parts.value()) size_bytes += part.size_bytes();
  if (Status status = check_memory(file, size_bytes); !status.is_ok()) return status;
  const Result<std::span<std::byte>> image = file.begin_write(size_bytes);
  if (!image.is_ok()) return image.status();
  written.bad = Writer(image.value()).write(shape.version, tokens, parts.value());
  if (!written.bad.empty()) return written;
  if (Status status = file.end_write(); !status.is_ok()) return status;
  written.size_bytes = size_bytes;
  return written;
}

}  // namespace

Result<WrittenState> write_state(MemoryFile& file, const ImageShape& shape, std::span<const std::uint32_t> tokens,
                                 std::span<const BlockSource> sources) {
  Result<WrittenState> written = write_parts(file, shape, tokens, sources);
  if (!written.is_ok() || !written.value().bad.empty()) file.clear();
  return written;
}

}  // namespace kvtier::llama
