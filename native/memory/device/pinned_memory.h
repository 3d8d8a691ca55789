// Host memory that a GPU copies from and to by itself: registered with the driver, in parts that end where slots end.
// The first part is registered before use, the others by a thread in the background; memory that is not registered yet
// is copied through the driver's own buffers, which is slower and right as well. Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.h"
#include "memory/host_buffer.h"
#include "platform/cuda/cuda_context.h"
#include "platform/thread.h"

namespace kvtier {

// Sizes are of whole slots, as many as go into them, and at least one.
struct PinnedOptions {
  std::uint64_t first_part_bytes = std::uint64_t{64} << 20;  // registered (and touched) before make() returns
  std::uint64_t part_bytes = std::uint64_t{1} << 30;         // of each part after it; at most 64 GiB
  unsigned touch_threads = 4;
};

// What a copy has to know about a slot's host memory.
struct PinnedPart {
  std::uint32_t index = 0;           // copies may not cross from one part into another
  bool is_registered = false;        // else the driver copies it through buffers of its own
  std::uint64_t device_address = 0;  // of the slot, for kernels; 0 while it is not registered
};

class PinnedMemory {
 public:
  // Registers `size_bytes` of `buffer` from its start, in parts of whole slots of `slot_stride` bytes, a multiple of
  // 4 KiB. `buffer` need not be touched before: parts are touched, on the NUMA node of the device, before they are
  // registered. Fails when the first part cannot be: with kOutOfMemory, kDeviceLost or kIo; with kInvalidValue for
  // sizes that do not fit. A later part that cannot be registered stays so, and is not tried again.
  [[nodiscard]] static Result<std::unique_ptr<PinnedMemory>> make(std::shared_ptr<const CudaContext> context,
                                                                  std::shared_ptr<HostBuffer> buffer,
                                                                  std::uint64_t size_bytes, std::uint64_t slot_stride,
                                                                  const PinnedOptions& options = {});
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  // Stops the thread, which ends after the part that it is registering, and unregisters. The buffer stays its other
  // owners'. Precondition: no queued work uses the memory.
  ~PinnedMemory();

  // A part that is registered stays so. Takes no lock.
  [[nodiscard]] PinnedPart part_of(std::uint32_t slot) const noexcept;
  [[nodiscard]] std::uint64_t registered_bytes() const noexcept {
    return registered_bytes_.load(std::memory_order_relaxed);
  }
  // Waits until every part is registered or has failed; the status is the first failure.
  [[nodiscard]] Status wait() const;

 private:
  struct Parts;
  PinnedMemory(std::shared_ptr<const CudaContext> context, std::shared_ptr<HostBuffer> buffer, const Parts& parts,
               unsigned touch_threads);

  struct Range {
    std::size_t offset = 0;
    std::size_t length = 0;
  };
  [[nodiscard]] Range range_of(std::uint32_t part) const noexcept;
  [[nodiscard]] Status pin(std::uint32_t part);
  void unpin(std::byte* address) const noexcept;
  void pin_the_rest();
  void finish(Status first_failure);

  const std::uint64_t slot_stride_;
  const std::uint32_t slot_count_;
  const std::uint32_t first_slots_;  // of the first part
  const std::uint32_t part_slots_;   // of each part after it
  const std::uint32_t part_count_;
  // Where the device finds each part; 0 while it is not registered.
  const std::unique_ptr<std::atomic<std::uint64_t>[]> device_addresses_;

  const std::shared_ptr<const CudaContext> context_;
  const std::shared_ptr<HostBuffer> buffer_;
  const std::vector<unsigned> cpus_;  // of the device's NUMA node; empty where that is not known
  const unsigned touch_threads_;
  std::atomic<std::uint64_t> registered_bytes_{0};
  std::atomic<bool> is_stopping_{false};

  mutable std::mutex mutex_;  // guards the two below
  bool is_finished_ = false;
  Status first_failure_;
  mutable std::condition_variable finished_;

  Thread thread_;
};

}  // namespace kvtier
