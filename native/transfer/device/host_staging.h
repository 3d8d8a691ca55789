// Registered host buffers of one GPU, through which blocks pass that have no host slot: the GPU copies from them by
// itself. Few and bounded; whoever finds none uses pageable memory of its own. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "memory/device/pinned_memory.h"
#include "memory/host_buffer.h"

namespace kvtier {

class HostStaging : public std::enable_shared_from_this<HostStaging> {
  struct Buffer {
    std::shared_ptr<HostBuffer> memory;
    std::unique_ptr<PinnedMemory> pinned;
  };

 public:
  // As much as the engine's threads use at a time, where a buffer is a disk's run.
  static constexpr std::uint64_t kMostBytes = std::uint64_t{32} << 20;
  static constexpr std::size_t kMostBuffers = 8;

  explicit HostStaging(std::shared_ptr<const CudaContext> context) noexcept : context_(std::move(context)) {}

  // Makes buffers of that size, or of a larger one that was asked for before: as many as both limits leave. Fewer, or
  // none, where the system or the driver refuses. Takes long (memory is touched and registered).
  void make_room(std::uint64_t size_bytes);

  // A buffer for a while. Goes back when this does; nothing that is queued uses it any more then.
  class Hold {
   public:
    Hold() noexcept = default;
    Hold(Hold&& other) noexcept = default;
    Hold& operator=(Hold&& other) noexcept;
    ~Hold() { give_back(); }

    [[nodiscard]] bool is_empty() const noexcept { return buffer_ == nullptr; }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept;
    // How the GPU sees it: one registered part.
    [[nodiscard]] PinnedPart part() const noexcept;

   private:
    friend class HostStaging;
    Hold(std::shared_ptr<HostStaging> owner, std::unique_ptr<Buffer> buffer) noexcept;
    void give_back() noexcept;
    std::shared_ptr<HostStaging> owner_;
    std::unique_ptr<Buffer> buffer_;
  };
  // Empty where there is none of that size now.
  [[nodiscard]] Hold take(std::uint64_t size_bytes);

 private:
  [[nodiscard]] std::unique_ptr<Buffer> make_buffer(std::uint64_t size_bytes) const;

  const std::shared_ptr<const CudaContext> context_;
  std::mutex making_;  // taken before mutex_: one thread at a time makes room
  std::mutex mutex_;   // guards the rest
  std::uint64_t size_bytes_ = 0;
  std::vector<std::unique_ptr<Buffer>> spare_;
};

}  // namespace kvtier
