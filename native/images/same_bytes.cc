#include "images/same_bytes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace kvtier {
namespace {

constexpr std::uint64_t kStepBytes = std::uint64_t{256} * 1024;

Result<std::uint64_t> read_step(const MemoryFile& file, std::uint64_t offset, std::vector<std::byte>& buffer) {
  iovec part{buffer.data(), buffer.size()};
  return file.read(offset, std::span(&part, 1));
}

}  // namespace

Result<bool> same_bytes(const MemoryFile& a, const MemoryFile& b) {
  const Result<std::uint64_t> a_size = a.size();
  if (!a_size.is_ok()) return a_size.status();
  const Result<std::uint64_t> b_size = b.size();
  if (!b_size.is_ok()) return b_size.status();
  if (a_size.value() != b_size.value()) return false;
  std::vector<std::byte> from_a(kStepBytes);
  std::vector<std::byte> from_b(kStepBytes);
  for (std::uint64_t at = 0; at < a_size.value(); at += kStepBytes) {
    const Result<std::uint64_t> a_read = read_step(a, at, from_a);
    if (!a_read.is_ok()) return a_read.status();
    const Result<std::uint64_t> b_read = read_step(b, at, from_b);
    if (!b_read.is_ok()) return b_read.status();
    // A file that became shorter meanwhile is not what it was.
    if (a_read.value() != std::min(kStepBytes, a_size.value() - at) || b_read.value() != a_read.value()) return false;
    if (std::memcmp(from_a.data(), from_b.data(), a_read.value()) != 0) return false;
  }
  return true;
}

}  // namespace kvtier
