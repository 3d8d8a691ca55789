// Moving an image's payload from its file to many places in memory with few system calls: pieces that follow each other
// in the file become one call. The first fault stays, and nothing is moved after it. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/status.h"
#include "platform/memory_file.h"

namespace kvtier {

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

}  // namespace kvtier
