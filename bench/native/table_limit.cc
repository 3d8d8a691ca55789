#include "table_limit.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace limits {
namespace {

// Far enough for a line to arrive from memory while the ones before it are looked at.
constexpr std::size_t kAhead = 16;

}  // namespace

TableLimit::Entry TableLimit::key_of(const std::uint8_t* hash) noexcept {
  Entry entry{};
  std::memcpy(entry.key, hash, sizeof entry.key);
  return entry;
}

kvtier::Result<std::unique_ptr<TableLimit>> TableLimit::make(std::span<const std::uint8_t> hashes) {
  const std::size_t count = hashes.size() / kHashBytes;
  const std::size_t capacity = std::bit_ceil(std::max<std::size_t>(count * 2, 16));
  auto memory = kvtier::HostBuffer::allocate(capacity * sizeof(Entry));
  if (!memory.is_ok()) return memory.status();
  std::unique_ptr<TableLimit> table(new TableLimit());
  table->memory_ = std::move(memory).value();
  table->entries_ = reinterpret_cast<Entry*>(table->memory_.data());
  table->mask_ = capacity - 1;
  for (std::size_t i = 0; i < count; ++i) {
    Entry entry = key_of(hashes.data() + i * kHashBytes);
    entry.number = static_cast<std::uint32_t>(i + 1);
    std::size_t at = table->home_of(entry);
    while (table->entries_[at].number != 0) at = (at + 1) & table->mask_;
    table->entries_[at] = entry;
  }
  return table;
}

std::size_t TableLimit::find_leading(std::span<const std::uint8_t> hashes, std::int32_t* found) const noexcept {
  const std::size_t count = hashes.size() / kHashBytes;
  for (std::size_t i = 0; i < std::min(kAhead, count); ++i) {
    __builtin_prefetch(&entries_[home_of(key_of(hashes.data() + i * kHashBytes))]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      __builtin_prefetch(&entries_[home_of(key_of(hashes.data() + (i + kAhead) * kHashBytes))]);
    }
    const Entry wanted = key_of(hashes.data() + i * kHashBytes);
    std::size_t at = home_of(wanted);
    while (entries_[at].number != 0 && std::memcmp(entries_[at].key, wanted.key, sizeof wanted.key) != 0) {
      at = (at + 1) & mask_;
    }
    if (entries_[at].number == 0) return i;
    found[i] = static_cast<std::int32_t>(entries_[at].number - 1);
  }
  return count;
}

}  // namespace limits
