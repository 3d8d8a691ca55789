// Moving an image's payload between its file and many places in memory with few system calls: pieces that follow each
// other in the file become one call. The first fault stays, and nothing is moved after it. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/status.h"
#include "platform/memory_file.h"

namespace kvtier {

// From the file into memory.
class ImageScatter {
 public:
  explicit ImageScatter(const MemoryFile& file);

  void add(std::uint64_t offset, std::byte* to, std::size_t length);
  // What was added is there afterwards. Fails as MemoryFile::read() does, and with kBadImage where the file ends
  // before.
  [[nodiscard]] Status flush();

 private:
  void move();

  const MemoryFile& file_;
  std::vector<iovec> parts_;
  std::uint64_t offset_ = 0;  // of the parts in the file
  std::uint64_t length_ = 0;  // of all parts
  Status status_;
};

// From memory into the file, one byte after the other from its start.
class ImageGather {
 public:
  explicit ImageGather(MemoryFile& file);

  template <typename T>
  void number(T value) {
    static_assert(sizeof(T) <= 8);
    if (numbers_.size() + sizeof value > kNumberBytes) move();
    const auto* const begin = reinterpret_cast<const std::byte*>(&value);
    // Stays where it is: the room for all numbers of a call was made at first.
    numbers_.insert(numbers_.end(), begin, begin + sizeof value);
    add(numbers_.data() + numbers_.size() - sizeof value, sizeof value);
  }
  // They stay until flush().
  void bytes(std::span<const std::byte> bytes) { add(bytes.data(), bytes.size()); }
  // What was added is in the file afterwards. Fails as MemoryFile::write() does.
  [[nodiscard]] Status flush();
  [[nodiscard]] bool is_ok() const noexcept { return status_.is_ok(); }
  // Bytes added so far.
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_ + length_; }

 private:
  static constexpr std::size_t kNumberBytes = std::size_t{64} * 1024;

  void add(const std::byte* from, std::size_t length);
  void move();

  MemoryFile& file_;
  std::vector<iovec> parts_;
  std::vector<std::byte> numbers_;
  std::uint64_t offset_ = 0;
  std::uint64_t length_ = 0;
  Status status_;
};

}  // namespace kvtier
