// Which pages of a buffer are in memory, and buffers of which none is. One thread.
#pragma once

#include <sys/mman.h>

#include <doctest/doctest.h>
#include <cstddef>
#include <utility>
#include <vector>

#include "memory/host_buffer.h"

namespace kvtier {

inline constexpr std::size_t kPage = 4096;

inline HostBuffer untouched_buffer(std::size_t size) {
  auto buffer = HostBuffer::allocate(size, {.prefault = false});
  REQUIRE(buffer.is_ok());
  // Without huge pages, so that a touched page brings no others with it.
  ::madvise(buffer.value().data(), size, MADV_NOHUGEPAGE);
  return std::move(buffer).value();
}

inline std::size_t resident_pages(const std::byte* data, std::size_t length) {
  std::vector<unsigned char> resident(length / kPage);
  REQUIRE(::mincore(const_cast<std::byte*>(data), length, resident.data()) == 0);
  std::size_t present = 0;
  for (const unsigned char page : resident) present += page & 1;
  return present;
}

}  // namespace kvtier
