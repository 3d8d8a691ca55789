#include "storage/slab/recovered_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include "core/try_reserve.h"

namespace kvtier {
namespace {

// How far ahead of its use a line of memory is asked for. A random access costs about 100 ns, a step about 20.
constexpr std::size_t kAhead = 8;

}  // namespace

Result<RecoveredBlocks> RecoveredBlocks::make(std::uint32_t capacity) {
  RecoveredBlocks blocks;
  // Not touched before use: a table is often nearly empty.
  constexpr HostBufferOptions kUntouched{.prefault = false, .threads = 1};
  auto entries = HostBuffer::allocate(std::size_t{capacity} * sizeof(Entry), kUntouched);
  if (!entries.is_ok()) return entries.status();
  auto details = HostBuffer::allocate(std::size_t{capacity} * sizeof(Details), kUntouched);
  if (!details.is_ok()) return details.status();
  blocks.entry_memory_ = std::move(entries).value();
  blocks.details_memory_ = std::move(details).value();
  blocks.entries_ = reinterpret_cast<Entry*>(blocks.entry_memory_.data());
  blocks.details_ = reinterpret_cast<Details*>(blocks.details_memory_.data());
  blocks.capacity_ = capacity;
  return blocks;
}

void RecoveredBlocks::add(std::uint32_t slot, const DecodedRecord& record) noexcept {
  KVTIER_CHECK(entry_count_ < capacity_);
  new (&entries_[entry_count_])
      Entry{.hash = record.hash, .parent = record.parent, .depth = record.depth, .slot = slot, .position = 0};
  new (&details_[entry_count_]) Details{.sequence = record.sequence,
                                        .tenant_tag = record.tenant_tag,
                                        .priority = record.priority,
                                        .expires_at_s = record.expires_at_s,
                                        .last_use_s = record.last_use_s};
  ++entry_count_;
}

RecoveredBlocks::Probe RecoveredBlocks::probe_for(const std::uint8_t* hash) const noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, hash, sizeof word);
  word *= 0x9E3779B97F4A7C15;
  word ^= word >> 32;
  return {static_cast<std::size_t>(word) & cell_mask_, static_cast<std::uint32_t>(word >> 32)};
}

Status RecoveredBlocks::make_index() {
  const std::size_t cell_count = std::bit_ceil(std::size_t{entry_count_} * 2 + 1);
  auto memory = HostBuffer::allocate(cell_count * sizeof(Cell), {.prefault = false, .threads = 1});
  if (!memory.is_ok()) return memory.status();
  cell_memory_ = std::move(memory).value();
  cells_ = reinterpret_cast<Cell*>(cell_memory_.data());  // fresh memory is zero: every cell is empty
  cell_mask_ = cell_count - 1;
  return Status::ok();
}

// Puts every entry into the index; of two of the same block the newer one stays. Returns how many gave way.
std::uint32_t RecoveredBlocks::index_newest() noexcept {
  std::uint32_t superseded = 0;
  for (std::uint32_t i = 0; i < entry_count_; ++i) {
    if (i + kAhead < entry_count_) {
      __builtin_prefetch(&cells_[probe_for(entries_[i + kAhead].hash.data()).cell], 1);
    }
    Entry& entry = entries_[i];
    const Probe probe = probe_for(entry.hash.data());
    for (std::size_t at = probe.cell;; at = (at + 1) & cell_mask_) {
      Cell& cell = cells_[at];
      if (cell.entry == 0) {
        cell = {probe.tag, i + 1};
        break;
      }
      if (cell.tag != probe.tag || entries_[cell.entry - 1].hash != entry.hash) continue;
      Entry& other = entries_[cell.entry - 1];
      const bool newer = details_[i].sequence >= details_[cell.entry - 1].sequence;
      (newer ? other : entry).position = kNone;
      if (newer) cell.entry = i + 1;
      ++superseded;
      break;
    }
  }
  return superseded;
}

// The entry of the block before this one; kNone when there is none one block nearer to its sequence's start.
std::uint32_t RecoveredBlocks::find_parent(const Entry& entry) const noexcept {
  if (entry.depth == 0) return kNone;
  const Probe probe = probe_for(entry.parent.data());
  for (std::size_t at = probe.cell; cells_[at].entry != 0; at = (at + 1) & cell_mask_) {
    if (cells_[at].tag != probe.tag) continue;
    const std::uint32_t number = cells_[at].entry - 1;
    const Entry& other = entries_[number];
    if (std::memcmp(other.hash.data(), entry.parent.data(), entry.parent.size()) != 0) continue;
    return other.depth + 1 == entry.depth ? number : kNone;
  }
  return kNone;
}

// Finds every block's parent and makes the lists of children. Backwards, so that each list comes in the order of slots.
// The loop asks early for what the blocks behind it will need: the parent's cell, then the parent. (In a function of
// their own the compiler takes such requests for work without an effect and drops them.)
Status RecoveredBlocks::link_all() {
  auto memory = HostBuffer::allocate(std::size_t{entry_count_} * sizeof(Link) + 1, {.prefault = false, .threads = 1});
  if (!memory.is_ok()) return memory.status();
  link_memory_ = std::move(memory).value();
  links_ = reinterpret_cast<Link*>(link_memory_.data());
  std::memset(static_cast<void*>(links_), 0xFF, std::size_t{entry_count_} * sizeof(Link));
  for (std::uint32_t i = entry_count_; i-- > 0;) {
    if (i >= 2 * kAhead) __builtin_prefetch(&cells_[probe_for(entries_[i - 2 * kAhead].parent.data()).cell]);
    if (i >= kAhead) {
      const Cell& cell = cells_[probe_for(entries_[i - kAhead].parent.data()).cell];
      if (cell.entry != 0) {
        __builtin_prefetch(&entries_[cell.entry - 1]);
        __builtin_prefetch(&links_[cell.entry - 1], 1);
      }
    }
    if (entries_[i].position == kNone) continue;
    const std::uint32_t parent = find_parent(entries_[i]);
    if (parent == kNone) continue;
    links_[i].parent = parent;
    links_[i].next = links_[parent].first_child;
    links_[parent].first_child = i;
  }
  return Status::ok();
}

// The entries that can be reached from a sequence's first block, or from an orphan where those are kept: a sequence
// from its start to its end, then what branches off it, from the end backwards.
void RecoveredBlocks::order_by_sequence(bool keep_orphans, std::vector<std::uint32_t>& order) const {
  for (std::uint32_t root = 0; root < entry_count_; ++root) {
    const Entry& entry = entries_[root];
    if (entry.position == kNone || links_[root].parent != kNone) continue;
    if (entry.depth != 0 && !keep_orphans) continue;
    for (std::uint32_t at = root;;) {
      order.push_back(at);
      if (links_[at].first_child != kNone) {
        at = links_[at].first_child;
        continue;
      }
      while (at != root && links_[at].next == kNone) at = links_[at].parent;
      if (at == root) break;
      at = links_[at].next;
    }
  }
}

void RecoveredBlocks::list(std::uint32_t number, SlabContents& contents) const {
  Entry& entry = entries_[number];
  const Details& details = details_[number];
  const std::uint32_t parent = links_[number].parent;
  entry.position = static_cast<std::uint32_t>(contents.slots.size());
  contents.hashes.push_back(entry.hash);
  contents.slots.push_back(entry.slot);
  contents.parents.push_back(parent == kNone ? -1 : static_cast<std::int32_t>(entries_[parent].position));
  contents.depths.push_back(entry.depth);
  contents.tenant_tags.push_back(details.tenant_tag);
  contents.priorities.push_back(details.priority);
  contents.expires_at_s.push_back(details.expires_at_s);
  contents.last_uses_s.push_back(details.last_use_s);
}

void RecoveredBlocks::list_all(std::span<const std::uint32_t> order, SlabContents& contents) {
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint32_t ahead = order[std::min(i + kAhead, order.size() - 1)];
    __builtin_prefetch(&entries_[ahead]);
    __builtin_prefetch(&details_[ahead]);
    list(order[i], contents);
  }
}

Status RecoveredBlocks::finish(bool keep_orphans, SlabContents& contents) {
  if (Status status = make_index(); !status.is_ok()) return status;
  contents.records_superseded = index_newest();
  const std::uint32_t count = entry_count_ - contents.records_superseded;
  std::vector<std::uint32_t> order;
  Status status = try_reserve(order, count);
  if (status.is_ok()) status = try_reserve(contents.hashes, count);
  if (status.is_ok()) status = try_reserve(contents.parents, count);
  for (auto* field : {&contents.slots, &contents.depths, &contents.tenant_tags, &contents.priorities,
                      &contents.expires_at_s, &contents.last_uses_s}) {
    if (status.is_ok()) status = try_reserve(*field, count);
  }
  if (status.is_ok()) status = link_all();
  if (!status.is_ok()) return status;
  order_by_sequence(keep_orphans, order);
  contents.records_orphaned = count - static_cast<std::uint32_t>(order.size());
  list_all(order, contents);
  return Status::ok();
}

}  // namespace kvtier
