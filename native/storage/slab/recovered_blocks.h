// The good records of a table while they are put in order: a list with a hash index over it, in memory that is asked
// for once. One thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"
#include "memory/host_buffer.h"
#include "storage/slab/record.h"
#include "storage/slab/slab_storage.h"

namespace kvtier {

class RecoveredBlocks {
 public:
  // Room for `capacity` records. Fails with kOutOfMemory.
  [[nodiscard]] static Result<RecoveredBlocks> make(std::uint32_t capacity);

  // Records come in the order of their slots.
  void add(std::uint32_t slot, const DecodedRecord& record) noexcept;

  // Once, after the last add(): finds each block's newest record and its parent, and lists the blocks in `contents`,
  // one sequence after the other, each from its first block on. Fails with kOutOfMemory.
  [[nodiscard]] Status finish(bool keep_orphans, SlabContents& contents);

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  // What the search for parents touches: one cache line.
  struct alignas(64) Entry {
    SequenceHash hash;
    HashPrefix parent;
    std::uint32_t depth;
    std::uint32_t slot;
    std::uint32_t position;  // in the contents once it is listed; kNone for a record that is not to be listed
  };
  static_assert(sizeof(Entry) == 64);
  // What it does not.
  struct Details {
    std::uint64_t sequence;
    std::uint32_t tenant_tag;
    std::uint32_t priority;
    std::uint32_t expires_at_s;
    std::uint32_t last_use_s;
  };
  // How the blocks hang together, by entry number; kNone where there is none. Children come in the order of their
  // slots.
  struct Link {
    std::uint32_t parent;
    std::uint32_t first_child;
    std::uint32_t next;  // of the same parent
  };
  // A cell of the index: some more bits of the hash, so that most misses touch nothing else, and 1 + an entry's number.
  struct Cell {
    std::uint32_t tag;
    std::uint32_t entry;
  };

  // Where the search for a hash, or for the prefix of one, begins.
  struct Probe {
    std::size_t cell;
    std::uint32_t tag;
  };
  [[nodiscard]] Probe probe_for(const std::uint8_t* hash) const noexcept;
  [[nodiscard]] Status make_index();
  [[nodiscard]] std::uint32_t index_newest() noexcept;
  [[nodiscard]] std::uint32_t find_parent(const Entry& entry) const noexcept;
  [[nodiscard]] Status link_all();
  // `order` has room for them.
  void order_by_sequence(bool keep_orphans, std::vector<std::uint32_t>& order) const;
  void list_all(std::span<const std::uint32_t> order, SlabContents& contents);
  void list(std::uint32_t number, SlabContents& contents) const;

  HostBuffer entry_memory_;
  HostBuffer details_memory_;
  HostBuffer cell_memory_;
  HostBuffer link_memory_;
  Entry* entries_ = nullptr;
  Details* details_ = nullptr;
  Link* links_ = nullptr;
  std::uint32_t entry_count_ = 0;
  std::uint32_t capacity_ = 0;
  Cell* cells_ = nullptr;
  std::size_t cell_mask_ = 0;
};

}  // namespace kvtier
