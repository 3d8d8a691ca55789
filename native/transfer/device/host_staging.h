// Registered host memory of one GPU, through which blocks pass that have no host slot: the GPU copies from it by
// itself. Cut into a few buffers; whoever finds none free uses pageable memory of its own. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "memory/device/pinned_memory.h"

namespace kvtier {

class HostStaging {
  struct Pool;

 public:
  // As much as the engine's threads use at a time, where a buffer is a disk's run.
  static constexpr std::uint64_t kMostBytes = std::uint64_t{32} << 20;
  static constexpr std::uint32_t kMostBuffers = 8;

  explicit HostStaging(std::shared_ptr<const CudaContext> context) noexcept;
  HostStaging(const HostStaging&) = delete;
  HostStaging& operator=(const HostStaging&) = delete;
  ~HostStaging();

  // Makes buffers of that size, or larger ones that were asked for before: as many as both limits leave. None where the
  // system or the driver refuses. Takes long (memory is touched and registered).
  void make_room(std::uint64_t size_bytes);

  // A buffer for a while. Goes back when this does; nothing that is queued uses it any more then.
  class Hold {
   public:
    Hold() noexcept = default;
    Hold(Hold&& other) noexcept = default;
    Hold& operator=(Hold&& other) noexcept;
    ~Hold();

    [[nodiscard]] bool is_empty() const noexcept { return pool_ == nullptr; }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept;
    // How the GPU sees it: one registered part.
    [[nodiscard]] PinnedPart part() const noexcept;

   private:
    friend class HostStaging;
    Hold(std::shared_ptr<Pool> pool, std::uint32_t index) noexcept : pool_(std::move(pool)), index_(index) {}
    std::shared_ptr<Pool> pool_;  // stays as long as somebody holds a buffer of it
    std::uint32_t index_ = 0;
  };
  // Empty where no buffer of that size is free.
  [[nodiscard]] Hold take(std::uint64_t size_bytes);

 private:
  [[nodiscard]] std::shared_ptr<Pool> make_pool(std::uint64_t size_bytes) const;

  const std::shared_ptr<const CudaContext> context_;
  std::mutex making_;  // taken before mutex_: one thread at a time makes room
  std::mutex mutex_;   // guards the rest
  std::uint64_t size_bytes_ = 0;
  std::shared_ptr<Pool> pool_;  // null: none
};

}  // namespace kvtier
