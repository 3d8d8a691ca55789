// Page-aligned host memory for slots and staging: 2 MiB aligned, huge pages asked for, touched in parallel before use
// so that no transfer pays for a first touch. One owner; the bytes may be used from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace kvtier {

struct HostBufferOptions {
  bool prefault = true;
  unsigned threads = 2;
};

class HostBuffer {
 public:
  // Fails with kOutOfMemory when the system does not give `size_bytes`; kInvalidValue for 0.
  [[nodiscard]] static Result<HostBuffer> allocate(std::size_t size_bytes, const HostBufferOptions& options = {});

  HostBuffer() noexcept = default;
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void release() noexcept;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;
};

}  // namespace kvtier
