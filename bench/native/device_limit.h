// What copies between a GPU and host memory can do: the ways in which comparable systems queue them, rendered afresh
// over one set of blocks, and one plain copy of as many bytes. One thread, which waits for each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "clock.h"
#include "core/status.h"
#include "layout/slot_layout.h"
#include "memory/device/device_memory.h"
#include "memory/device/pinned_memory.h"
#include "platform/cuda/cuda_event.h"
#include "platform/cuda/cuda_stream.h"
#include "transfer/device/copier.h"
#include "transfer/device/strategies/batch.h"
#include "transfer/device/strategies/staged.h"

namespace limits {

// Columns: C++ name, public name.
#define LIMITS_DEVICE_WAYS(X)                                                                                       \
  X(kPlain, "plain")              /* one copy of as many bytes: the limit */                                        \
  X(kLoop, "loop")                /* an asynchronous copy for each block and layer */                               \
  X(kBatchStream, "batch-stream") /* batch copies of all of these, read in stream order */                          \
  X(kBatchAny, "batch-any")       /* the same, read at any time; legal here, where nothing is produced meanwhile */ \
  X(kCoalesced, "coalesced")      /* neighbouring runs merged, then an asynchronous copy each */                    \
  X(kRectangle, "rectangle")      /* the same with two-dimensional copies */                                        \
  X(kStaged, "staged")            /* gathered on the device (or scattered there), and one copy */                   \
  X(kKernel, "kernel")            /* a kernel over mapped host memory, of so many thread blocks */                  \
  X(kChosen, "chosen")            /* what kvtier takes after a calibration */

enum class DeviceWay : std::uint8_t {
#define LIMITS_DEVICE_WAY(name, text) name,
  LIMITS_DEVICE_WAYS(LIMITS_DEVICE_WAY)
#undef LIMITS_DEVICE_WAY
};

// kInvalidValue for a name that is none.
[[nodiscard]] kvtier::Result<DeviceWay> device_way_of(std::string_view name);

// Blocks of `run_count` runs, each in a region of its own on the device; contiguous in host memory.
struct DeviceGrid {
  std::size_t run_bytes = 0;
  std::size_t run_count = 0;
  std::size_t block_count = 0;
  bool scattered = false;  // device slots in a drawn order; else both sides in theirs
};

class DeviceLimit {
 public:
  // `library` as for CudaDriver::get(). The copier is calibrated.
  [[nodiscard]] static kvtier::Result<std::unique_ptr<DeviceLimit>> make(const std::string& library, int ordinal,
                                                                         const DeviceGrid& grid);
  DeviceLimit(const DeviceLimit&) = delete;
  DeviceLimit& operator=(const DeviceLimit&) = delete;
  ~DeviceLimit();

  // Copies every block once: seconds on the device's clock from before the first call to the end of the last copy, and
  // processor seconds of this thread to queue them. `kernel_blocks` counts for kKernel and kStaged. kUnsupported where
  // the way cannot be gone.
  [[nodiscard]] kvtier::Result<Elapsed> run(DeviceWay way, bool to_device, unsigned kernel_blocks);
  // Whether a run of that way over fresh memory brings every byte to its place.
  [[nodiscard]] kvtier::Result<bool> is_right(DeviceWay way, bool to_device, unsigned kernel_blocks);
  // Both directions at once, over two of them on one device, each queued by a thread of its own: seconds from before
  // the first call of either to the end of the last copy of both, and the processor seconds of both threads.
  [[nodiscard]] static kvtier::Result<Elapsed> run_both(DeviceLimit& away, DeviceLimit& towards, DeviceWay way,
                                                        unsigned kernel_blocks);
  // Whether a run of both at once brings every byte of both to its place.
  [[nodiscard]] static kvtier::Result<bool> are_right(DeviceLimit& away, DeviceLimit& towards, DeviceWay way,
                                                      unsigned kernel_blocks);

 private:
  DeviceLimit(std::shared_ptr<const kvtier::CudaContext> context, const DeviceGrid& grid, kvtier::SlotLayout layout,
              kvtier::CudaStream stream, kvtier::CudaEvent start, kvtier::CudaEvent end, kvtier::DeviceMemory device);

  [[nodiscard]] kvtier::Status open_memory();
  [[nodiscard]] kvtier::Status open_copier();
  [[nodiscard]] kvtier::Status enqueue(DeviceWay way, bool to_device, unsigned kernel_blocks);
  [[nodiscard]] kvtier::Status enqueue_batch(bool to_device, kvtier::cuda::SourceAccessOrder order);
  [[nodiscard]] kvtier::Status enqueue_kernel(bool to_device, unsigned kernel_blocks);
  [[nodiscard]] kvtier::Status enqueue_staged(bool to_device, unsigned kernel_blocks);
  // The device's seconds between start_ and end_, once both are there.
  [[nodiscard]] kvtier::Result<double> measured_seconds() const;
  // Fresh bytes on both sides; then, whether the target has those of the source, and the source still has its own.
  [[nodiscard]] kvtier::Status fill_memory();
  [[nodiscard]] kvtier::Result<bool> holds_copies(DeviceWay way, bool to_device);
  // All device memory from or to ordinary memory, and waits.
  [[nodiscard]] kvtier::Status copy_all(std::vector<unsigned char>& bytes, bool to_device);
  [[nodiscard]] bool holds_blocks(const std::vector<unsigned char>& device) const;
  [[nodiscard]] std::size_t total_bytes() const noexcept;
  [[nodiscard]] kvtier::CopyJob job(bool to_device) const;

  const std::shared_ptr<const kvtier::CudaContext> context_;
  const DeviceGrid grid_;
  const kvtier::SlotLayout layout_;
  kvtier::CudaStream stream_;
  kvtier::CudaEvent start_;
  kvtier::CudaEvent end_;
  kvtier::DeviceMemory device_;
  std::vector<std::uint64_t> regions_;
  std::vector<kvtier::SlotPair> pairs_;
  std::vector<kvtier::CopyRect> runs_;  // one a block and layer, nothing merged
  std::shared_ptr<kvtier::HostBuffer> buffer_;
  std::unique_ptr<kvtier::PinnedMemory> host_;
  std::unique_ptr<kvtier::Copier> copier_;
  std::unique_ptr<kvtier::Staging> staging_;  // as large as all blocks; null without kernels
  kvtier::BatchScratch batch_;
  kvtier::KernelScratch kernel_;
};

}  // namespace limits
