// What finding blocks can cost: open addressing over 16-byte entries in huge pages, 96 bits of the hash and the slot
// side by side, the next lines asked for ahead of their use. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/status.h"
#include "memory/host_buffer.h"

namespace limits {

class TableLimit {
 public:
  // Holds the hashes (32 bytes each), at most half full.
  [[nodiscard]] static kvtier::Result<std::unique_ptr<TableLimit>> make(std::span<const std::uint8_t> hashes);

  // How many leading hashes are there; their numbers go to `found`.
  [[nodiscard]] std::size_t find_leading(std::span<const std::uint8_t> hashes, std::int32_t* found) const noexcept;

 private:
  struct Entry {
    std::uint32_t key[3];
    std::uint32_t number;  // of the hash, from 1; 0 = empty
  };
  static constexpr std::size_t kHashBytes = 32;

  TableLimit() = default;
  [[nodiscard]] static Entry key_of(const std::uint8_t* hash) noexcept;
  [[nodiscard]] std::size_t home_of(const Entry& key) const noexcept { return key.key[0] & mask_; }

  kvtier::HostBuffer memory_;
  Entry* entries_ = nullptr;
  std::size_t mask_ = 0;
};

}  // namespace limits
