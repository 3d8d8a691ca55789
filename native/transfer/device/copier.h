// Queues copies between device slots and host slots in a stream, in the way that is fastest on this device for their
// size and number. Making one: any thread. enqueue(): a thread whose current context is the copier's; one at a time for
// each direction, the two directions beside each other.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "core/status.h"
#include "kernels/device/device_kernels.h"
#include "platform/cuda/cuda_context.h"
#include "transfer/device/copy_choices.h"
#include "transfer/device/copy_rects.h"
#include "transfer/device/strategies/kernel.h"

namespace kvtier {

// One device's part of some blocks, to or from host slots. To the device: the host's bytes are complete before
// enqueue() is called, and stay as they are until the stream has run (batch_order() relies on it). From the device: the
// stream waits already for what produces the bytes. No target slot is named twice.
struct CopyJob {
  DeviceSlots device;
  HostSlots host;
  std::span<const SlotPair> pairs;
  // Of the device layout's fragments, for copying a layer at a time.
  std::uint32_t first_fragment = 0;
  std::uint32_t fragment_count = ~std::uint32_t{0};
  bool to_device = false;
  bool pinned = false;            // all of the host slots are registered, in one part; else only kSingle is used
  std::uint64_t mapped_base = 0;  // the device's address of host.base, for kernels; 0: none
};

struct CopierOptions {
  CopyChoices choices = CopyChoices::defaults();
  std::uint32_t forbidden = 0;                            // bit_of() each strategy; kSingle cannot be forbidden
  unsigned kernel_blocks = 12;                            // thread blocks of a copying kernel at most
  std::uint64_t staging_bytes = std::uint64_t{16} << 20;  // for each direction, on the device; 0: no staging
};

class Copier {
 public:
  // Kernels and staging memory that cannot be had only rule strategies out, unless the device is lost. Staging memory
  // is not asked for where kStaged is forbidden from the start or there are no kernels.
  [[nodiscard]] static Result<std::unique_ptr<Copier>> create(std::shared_ptr<const CudaContext> context,
                                                              const CopierOptions& options);
  // The same with somebody else's kernel, or why there is none; kernels() is then null. For tests.
  [[nodiscard]] static Result<std::unique_ptr<Copier>> create_with(std::shared_ptr<const CudaContext> context,
                                                                   const CopierOptions& options,
                                                                   Result<CopySlots> copy_slots);
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;
  // Precondition: what it queued has run.
  ~Copier();

  // Queues all of the job's bytes. After a failure some of them may be queued all the same: what they touch is not free
  // before the stream has run.
  //
  // The strategy is what the choices say for the job's runs and their average size. One that cannot do the job, or that
  // the driver refuses with kUnsupported, is followed by the first of these that can:
  //   kKernel     kStaged, kBatch, kRectangle, kSingle
  //   kStaged     kBatch, kRectangle, kSingle
  //   kBatch      kRectangle, kSingle
  //   kRectangle  kBatch, kSingle
  // kRectangle is left out, too, where rectangles have fewer than two rows on average: it would be kSingle.
  [[nodiscard]] Status enqueue(const CopyJob& job, cuda::Stream stream);
  // The same by one strategy, for measuring. kUnsupported where it cannot be used.
  [[nodiscard]] Status enqueue_by(CopyStrategy strategy, const CopyJob& job, cuda::Stream stream);
  // Whether a strategy can be used here, and why not; a job may still be one that it cannot do.
  [[nodiscard]] Status can_use(CopyStrategy strategy, bool to_device) const;
  // Any thread; counts from the next enqueue() on.
  void set_choices(const CopyChoices& choices, std::uint32_t forbidden) noexcept;
  // null where no kernels could be loaded.
  [[nodiscard]] const DeviceKernels* kernels() const noexcept { return device_kernels_.get(); }
  [[nodiscard]] const std::shared_ptr<const CudaContext>& context() const noexcept { return context_; }

 private:
  struct Lane;     // what a direction keeps between jobs
  struct Planned;  // a job, sorted and counted
  enum class Obstacle : std::uint8_t;

  Copier(std::shared_ptr<const CudaContext> context, const CopierOptions& options);
  [[nodiscard]] Status prepare(const CopierOptions& options, Result<CopySlots>&& copy_slots);

  [[nodiscard]] Result<Planned> plan(const CopyJob& job);
  [[nodiscard]] Obstacle obstacle_here(CopyStrategy strategy, bool to_device, std::uint32_t forbidden) const noexcept;
  [[nodiscard]] Obstacle obstacle_for(CopyStrategy strategy, const Planned& planned,
                                      cuda::Stream stream) const noexcept;
  [[nodiscard]] Status explain(CopyStrategy strategy, bool to_device, Obstacle obstacle) const;
  [[nodiscard]] Status run(CopyStrategy strategy, const Planned& planned, cuda::Stream stream);
  [[nodiscard]] Status run_rects(CopyStrategy strategy, const Planned& planned, cuda::Stream stream);
  [[nodiscard]] Status run_kernel(const Planned& planned, cuda::Stream stream);
  [[nodiscard]] Status run_staged(const Planned& planned, cuda::Stream stream);

  const std::shared_ptr<const CudaContext> context_;
  const unsigned kernel_blocks_;
  std::uint64_t max_pitch_ = 0;  // of two-dimensional copies
  std::unique_ptr<DeviceKernels> device_kernels_;
  CopySlots copy_slots_;                        // empty: no kernels
  Status no_kernels_;                           // why
  std::array<std::unique_ptr<Lane>, 2> lanes_;  // [to_device]

  mutable std::mutex mutex_;  // guards the two below
  CopyChoices choices_;
  std::uint32_t forbidden_;
};

}  // namespace kvtier
