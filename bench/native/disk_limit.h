// What the disk can do: O_DIRECT reads and writes of one size on a few threads, between a preallocated file and memory
// like that of the host tier, in the order of the file. One thread at a time; a run makes threads of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "clock.h"
#include "core/status.h"
#include "memory/host_buffer.h"

namespace limits {

class DiskLimit {
 public:
  // Makes the file, with every byte reserved on the disk. Where the file system has no O_DIRECT, it does without.
  [[nodiscard]] static kvtier::Result<std::unique_ptr<DiskLimit>> make(const std::string& path, std::size_t size_bytes);
  // Removes the file.
  ~DiskLimit();
  DiskLimit(const DiskLimit&) = delete;
  DiskLimit& operator=(const DiskLimit&) = delete;

  [[nodiscard]] bool direct() const noexcept { return direct_; }
  // Moves the whole file once. Fails with kIo.
  [[nodiscard]] kvtier::Result<Elapsed> run(std::size_t op_bytes, unsigned thread_count, bool writes);

 private:
  DiskLimit() = default;
  std::string path_;
  std::size_t size_bytes_ = 0;
  int fd_ = -1;
  bool direct_ = false;
  kvtier::HostBuffer memory_;
};

}  // namespace limits
