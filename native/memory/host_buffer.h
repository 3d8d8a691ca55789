// Page-aligned host memory for slots and staging: 2 MiB aligned, huge pages asked for, touched in parallel before use
// (or later, part by part and near a device) so that no transfer pays for a first touch. One owner; the bytes may be
// used from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/status.h"

namespace kvtier {

struct HostBufferOptions {
  bool prefault = true;
  unsigned threads = 2;
};

struct TouchOptions {
  unsigned threads = 2;
  // Not empty: threads of its own that stay on these processors touch, so that the memory is near them.
  std::span<const unsigned> cpus{};
  const std::atomic<bool>* stop = nullptr;  // becomes true: what is not touched yet stays so
  bool by_writing = false;                  // as under a kernel that has no call for it, for tests
};

// Whether memory that is touched at once may be asked for: kOutOfMemory where the system says that it has less; OK
// where it does not say.
[[nodiscard]] Status check_room(std::size_t size_bytes, std::optional<std::uint64_t> available_bytes);

class HostBuffer {
 public:
  // Zeroed. Fails with kOutOfMemory when the system does not give `size_bytes`; kInvalidValue for 0.
  [[nodiscard]] static Result<HostBuffer> allocate(std::size_t size_bytes, const HostBufferOptions& options = {});

  HostBuffer() noexcept = default;
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // Touches the pages of a range of a buffer that was allocated untouched. What the bytes hold stays, also when other
  // threads write them meanwhile. Fails with kOutOfMemory. Precondition: the range is the buffer's.
  [[nodiscard]] Status touch(std::size_t offset, std::size_t length, const TouchOptions& options = {}) const;
  // A child of fork() will not have the memory. For memory that devices write by themselves: its pages would be copied
  // for the child, or be the child's alone from then on.
  void keep_from_children() noexcept;
  // Somebody out of reach may use the bytes later: when the buffer goes, the system gets its memory back, but nothing
  // else ever gets its addresses, which read as zero from then on. Any thread.
  void keep_addresses() noexcept { keeps_addresses_.store(true, std::memory_order_relaxed); }

 private:
  void release() noexcept;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;
  bool is_touched_ = false;
  std::atomic<bool> keeps_addresses_{false};
};

}  // namespace kvtier
