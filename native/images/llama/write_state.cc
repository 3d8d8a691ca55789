#include "images/llama/write_state.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/try_reserve.h"
#include "images/image_io.h"
#include "images/llama/state_format.h"
#include "memory/host_buffer.h"
#include "platform/system_memory.h"

namespace kvtier::llama {
namespace {

// Rows of a transposed V are put together as many as fit here: small enough to stay in the processor's cache.
constexpr std::uint64_t kBounceBytes = std::uint64_t{256} * 1024;

constexpr std::uint64_t kWord = sizeof(std::uint32_t);
constexpr std::uint64_t kRowHeader = sizeof(std::uint32_t) + sizeof(std::uint64_t);
constexpr std::uint64_t kColumnHeader = 3 * sizeof(std::uint32_t);

// A section and the blocks that it is made of.
struct Part {
  const SectionShape* shape = nullptr;
  std::optional<BlockSlots> slots;
  std::vector<const std::byte*> blocks;
  std::uint32_t first_position = 0;
  std::uint32_t cell_count = 0;

  [[nodiscard]] bool is_recurrent() const noexcept { return shape->kind == SectionKind::kRecurrent; }
  [[nodiscard]] std::uint64_t tokens() const noexcept { return slots->tokens_per_block(); }
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

class Writer {
 public:
  explicit Writer(MemoryFile& file) : out_(file) {}

  Status write(std::uint32_t version, std::span<const std::uint32_t> tokens, std::span<const Part> parts,
               std::uint64_t size_bytes) {
    out_.number(kMagic);
    out_.number(version);
    out_.number(static_cast<std::uint32_t>(tokens.size()));
    out_.bytes(std::as_bytes(tokens));
    for (const Part& part : parts) {
      if (part.is_recurrent()) {
        write_recurrent(part);
      } else {
        write_streams(part);
      }
      if (!status_.is_ok()) return status_;
    }
    Status status = out_.flush();
    KVTIER_CHECK(!status.is_ok() || out_.offset() == size_bytes);
    return status;
  }

 private:
  void write_streams(const Part& part) {
    out_.number(part.shape->streams);
    for (std::uint32_t stream = 0; stream < part.shape->streams; ++stream) {
      if (stream == part.shape->stream) {
        write_cells(part);
      } else {
        out_.number(std::uint32_t{0});
      }
    }
  }

  void write_cells(const Part& part) {
    out_.number(part.cell_count);
    for (std::uint32_t i = 0; i < part.cell_count; ++i) {
      out_.number(part.first_position + i);
      out_.number(std::uint32_t{1});
      out_.number(part.shape->sequence);
    }
    out_.number(std::uint32_t{part.shape->transposed});
    out_.number(static_cast<std::uint32_t>(part.shape->layers.size()));
    write_keys(part);
    if (part.shape->kind == SectionKind::kLatent) return;
    write_values(part);
  }

  void write_recurrent(const Part& part) {
    out_.number(std::uint32_t{1});
    out_.number(part.first_position);
    out_.number(std::uint32_t{0});
    out_.number(std::uint32_t{0});
    out_.number(part.shape->model_layers);
    write_keys(part);
    write_values(part);
  }

  void write_keys(const Part& part) {
    std::uint64_t base = 0;
    for (const LayerRows& rows : part.shape->layers) {
      out_.number(rows.k_type);
      out_.number(std::uint64_t{rows.k_row_bytes});
      write_rows(part, base, rows.k_row_bytes);
      base += part.tokens() * (std::uint64_t{rows.k_row_bytes} + rows.v_row_bytes);
    }
  }

  void write_values(const Part& part) {
    std::uint64_t base = 0;
    for (const LayerRows& rows : part.shape->layers) {
      base += part.tokens() * rows.k_row_bytes;
      out_.number(rows.v_type);
      if (rows.v_element_bytes == 0) {
        out_.number(std::uint64_t{rows.v_row_bytes});
        write_rows(part, base, rows.v_row_bytes);
      } else {
        out_.number(rows.v_element_bytes);
        out_.number(rows.v_row_bytes / rows.v_element_bytes);
        write_columns(part, base, rows);
      }
      base += part.tokens() * rows.v_row_bytes;
    }
  }

  void write_rows(const Part& part, std::uint64_t base, std::uint64_t row_bytes) {
    for (std::size_t i = 0; i < part.blocks.size(); ++i) {
      out_.bytes({part.blocks[i] + base, part.used(i) * row_bytes});
    }
  }

  void write_columns(const Part& part, std::uint64_t base, const LayerRows& rows) {
    const std::uint64_t element = rows.v_element_bytes;
    const std::uint64_t width = rows.v_row_bytes / element;
    const std::uint64_t stride = part.cell_count * element;
    const std::uint64_t at_once =
        std::clamp<std::uint64_t>(kBounceBytes / stride, 1, std::max<std::uint64_t>(width, 1));
    status_ = try_reserve(bounce_, at_once * stride);
    if (!status_.is_ok()) return;
    bounce_.resize(at_once * stride);
    for (std::uint64_t row = 0; row < width; row += at_once) {
      const std::uint64_t count = std::min(at_once, width - row);
      for (std::size_t i = 0; i < part.blocks.size(); ++i) {
        const std::byte* from = part.blocks[i] + base + row * part.tokens() * element;
        std::byte* to = bounce_.data() + i * part.tokens() * element;
        const std::uint64_t length = part.used(i) * element;
        for (std::uint64_t n = 0; n < count; ++n, from += part.tokens() * element, to += stride) {
          std::memcpy(to, from, length);
        }
      }
      out_.bytes({bounce_.data(), count * stride});
      status_ = out_.flush();
      if (!status_.is_ok()) return;
    }
  }

  ImageGather out_;
  std::vector<std::byte> bounce_;
  Status status_;
};

// Space for the state, asked of the system before it is taken where that is memory.
Status make_room(MemoryFile& file, std::uint64_t size_bytes) {
  const Result<std::uint64_t> present = file.size();
  if (!present.is_ok()) return present.status();
  if (file.kind() == MemoryFileKind::kMemory && size_bytes > present.value()) {
    const Status status = check_room(size_bytes - present.value(), system_memory().available_bytes);
    if (!status.is_ok()) return status;
  }
  return file.reserve(size_bytes);
}

Result<WrittenState> write_parts(MemoryFile& file, const ImageShape& shape, std::span<const std::uint32_t> tokens,
                                 std::span<const BlockSource> sources) {
  const Result<std::vector<Part>> parts = check_parts(shape, tokens, sources);
  if (!parts.is_ok()) return parts.status();
  WrittenState written;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    for (const std::uint32_t index : find_bad_blocks(sources[i])) {
      written.bad.push_back({static_cast<std::uint32_t>(i), index});
    }
  }
  if (!written.bad.empty()) return written;
  written.size_bytes = 3 * kWord + tokens.size_bytes();
  for (const Part& part : parts.value()) written.size_bytes += part.size_bytes();
  if (Status status = make_room(file, written.size_bytes); !status.is_ok()) return status;
  Status status = Writer(file).write(shape.version, tokens, parts.value(), written.size_bytes);
  if (!status.is_ok()) return status;
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
