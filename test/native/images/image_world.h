// An image, its file and host memory for each of its sections, as tests of cutting and writing need them. One thread.
#pragma once

#include <memory>
#include <vector>

#include "images/cut_blocks.h"
#include "images/llama/read_state.h"
#include "images/llama/write_state.h"
#include "kernels/copy_block.h"
#include "native/images/llama/synthetic_state.h"
#include "storage/memory/memory_storage.h"

namespace kvtier::images_test {

inline constexpr std::uint32_t kTokensPerBlock = 4;
inline constexpr std::uint32_t kSlots = 24;

inline SequenceHash hash_of(std::uint32_t number) {
  SequenceHash hash{};
  for (std::size_t i = 0; i < hash.size(); ++i) hash[i] = static_cast<std::uint8_t>(number * 31 + i);
  return hash;
}

inline std::unique_ptr<MemoryStorage> make_slots(const SectionShape& section, std::uint32_t slot_count = kSlots,
                                                 std::uint32_t tokens_per_block = kTokensPerBlock) {
  const bool recurrent = section.kind == SectionKind::kRecurrent;
  const GroupShape shape{.parts = 1,
                         .layers = 1,
                         .outer = 1,
                         .tokens_per_block = recurrent ? 1 : tokens_per_block,
                         .bytes_per_token = static_cast<std::uint32_t>(section.bytes_per_token())};
  auto storage = MemoryStorage::allocate(LayoutKind::kContiguous, shape, slot_count, {.prefault = false});
  REQUIRE_MESSAGE(storage.is_ok(), storage.status().message());
  return std::move(storage).value();
}

inline std::span<std::byte> slot_bytes(const Storage& storage, std::uint32_t slot) {
  const SlotView view = storage.view();
  const Fragment& whole = view.layout->fragments().front();
  return {view.regions[0] + whole.offset + whole.step * slot, storage.info().shape.block_bytes()};
}

inline void seal(Storage& storage, std::uint32_t slot, const SequenceHash& hash) {
  storage.set_checksum(slot, checksum_block(storage.view(), slot, seed_of(hash)));
}

// A state that was written by the tests' writer and read, and what a manager would have cut out of it.
struct ImageWorld {
  explicit ImageWorld(const SyntheticState& written) : ImageWorld(StateWriter::write(written), written.kinds()) {}
  ImageWorld(const Bytes& bytes, const std::vector<SectionKind>& kinds) : file(make_file()) {
    put(file, bytes);
    auto read = llama::read_state(file, kinds, 1U << 20);
    REQUIRE_MESSAGE(read.is_ok(), read.status().message());
    image = std::move(read).value();
    for (const SectionShape& section : image.shape.sections) storages.push_back(make_slots(section));
  }

  // The blocks of a section that begin in it and end by `tokens`, and their slots: from the last slot downwards.
  [[nodiscard]] std::vector<BlockMove> whole_blocks(std::size_t section, std::uint32_t tokens) const {
    if (image.shape.sections[section].kind == SectionKind::kRecurrent) return {{0, kSlots - 1}};
    std::vector<BlockMove> moves;
    const SectionPlace& place = image.sections[section];
    std::uint32_t block = (place.first_position + kTokensPerBlock - 1) / kTokensPerBlock;
    for (; (block + 1) * kTokensPerBlock <= std::min(tokens, place.first_position + place.cell_count); ++block) {
      moves.push_back({block, kSlots - 1 - block});
    }
    return moves;
  }

  [[nodiscard]] Status cut(std::size_t section, const std::vector<BlockMove>& moves) {
    const Status status =
        cut_blocks(file, image.shape.sections[section], image.sections[section], *storages[section], moves);
    if (status.is_ok()) {
      for (const BlockMove& move : moves) seal(*storages[section], move.slot, hash_of(move.block));
    }
    return status;
  }
  void cut_all() {
    for (std::size_t i = 0; i < storages.size(); ++i) {
      const Status status = cut(i, whole_blocks(i, ~0U));
      REQUIRE_MESSAGE(status.is_ok(), status.message());
    }
  }

  struct Lists {
    std::vector<std::vector<std::uint32_t>> slots;
    std::vector<std::vector<SequenceHash>> hashes;
    std::vector<BlockSource> sources;
  };
  // What a prefix is made of: every section's blocks up to `tokens`, the last one's end rounded up.
  [[nodiscard]] Lists lists(std::uint32_t tokens) const {
    Lists lists;
    lists.slots.resize(storages.size());
    lists.hashes.resize(storages.size());
    for (std::size_t i = 0; i < storages.size(); ++i) {
      const std::uint32_t up_to = (tokens + kTokensPerBlock - 1) / kTokensPerBlock * kTokensPerBlock;
      const std::vector<BlockMove> moves = whole_blocks(i, up_to);
      for (const BlockMove& move : moves) {
        lists.slots[i].push_back(move.slot);
        lists.hashes[i].push_back(hash_of(move.block));
      }
      lists.sources.push_back(
          {storages[i].get(), moves.empty() ? 0 : moves.front().block, lists.slots[i], lists.hashes[i]});
    }
    return lists;
  }
  [[nodiscard]] Result<llama::WrittenState> write(MemoryFile& target, std::uint32_t tokens) const {
    const Lists from = lists(tokens);
    return llama::write_state(target, image.shape, std::span(image.tokens).first(tokens), from.sources);
  }

  MemoryFile file;
  Image image;
  std::vector<std::unique_ptr<MemoryStorage>> storages;
};

}  // namespace kvtier::images_test
