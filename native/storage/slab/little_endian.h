// Numbers at fixed places of a file's bytes, little endian. Any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>

#include "core/check.h"

namespace kvtier {

static_assert(std::endian::native == std::endian::little, "a store's numbers lie in the file as they lie in memory");

template <typename Number>
void put_number(std::span<std::byte> bytes, std::size_t offset, Number value) noexcept {
  KVTIER_CHECK(offset + sizeof(Number) <= bytes.size());
  std::memcpy(bytes.data() + offset, &value, sizeof(Number));
}

template <typename Number>
[[nodiscard]] Number get_number(std::span<const std::byte> bytes, std::size_t offset) noexcept {
  KVTIER_CHECK(offset + sizeof(Number) <= bytes.size());
  Number value;
  std::memcpy(&value, bytes.data() + offset, sizeof(Number));
  return value;
}

}  // namespace kvtier
