// Walks through an image's file from its start: numbers with their ranges, counts that are held against the bytes that
// are left before anything is done with them. The first fault stays and is what the reader reports. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/status.h"
#include "core/try_reserve.h"
#include "platform/memory_file.h"

namespace kvtier {

class ImageCursor {
 public:
  // Of the file as long as it is now.
  explicit ImageCursor(const MemoryFile& file);

  [[nodiscard]] bool is_ok() const noexcept { return status_.is_ok(); }
  [[nodiscard]] const Status& status() const noexcept { return status_; }
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
  [[nodiscard]] std::uint64_t left() const noexcept { return size_bytes_ - offset_; }

  // A little-endian number from `least` to `most`; `least` once there is a fault. `what` names it, "the version" for
  // example.
  [[nodiscard]] std::uint32_t u32(const std::string& what, std::uint32_t least, std::uint32_t most);
  [[nodiscard]] std::uint64_t u64(const std::string& what, std::uint64_t least, std::uint64_t most);
  // `count` elements; none once there is a fault. Allocates no more than the file is long.
  template <typename T>
  [[nodiscard]] std::vector<T> array(const std::string& what, std::uint64_t count);
  // Passes `count` times `size_bytes` over and gives the offset where they begin.
  std::uint64_t skip(const std::string& what, std::uint64_t count, std::uint64_t size_bytes);

  // The fault "byte `at`: `what` is `was`; expected `expected`", unless there is one.
  void fail(std::uint64_t at, const std::string& what, const std::string& was, const std::string& expected);

 private:
  void fail(Status status);
  [[nodiscard]] bool has(const std::string& what, std::uint64_t count, std::uint64_t size_bytes);
  void read(void* bytes, std::size_t length);

  const MemoryFile& file_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t offset_ = 0;
  Status status_;
};

template <typename T>
std::vector<T> ImageCursor::array(const std::string& what, std::uint64_t count) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> values;
  if (!has(what, count, sizeof(T))) return values;
  if (Status status = try_reserve(values, count); !status.is_ok()) {
    fail(std::move(status));
    return values;
  }
  values.resize(count);
  read(values.data(), count * sizeof(T));
  if (!is_ok()) values.clear();
  return values;
}

}  // namespace kvtier
