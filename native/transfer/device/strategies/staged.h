// Copies by way of a staging buffer on the device: a kernel gathers slots into it and one copy a run of consecutive
// host slots takes them away, or the other way round. Full speed for small runs, at the price of a short kernel. One
// call at a time, on a thread whose current context is the stream's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/status.h"
#include "memory/device/device_memory.h"
#include "platform/cuda/cuda_event.h"
#include "transfer/device/strategies/kernel.h"

namespace kvtier {

struct StagedCopy {
  DeviceSlots device;
  HostSlots host;
  std::span<const SlotPair> pairs;  // in any order
  FragmentRange range;
  bool to_device = false;
  std::uint64_t max_pitch = 0;  // of the copies, as for copy_rectangles()
  unsigned kernel_blocks = 1;
};

// The buffer of one direction. It is used again and again in the order of the stream; each use also waits for the
// former one, which may have been in another stream.
class Staging {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Staging>> create(std::shared_ptr<const CudaContext> context,
                                                               std::uint64_t size_bytes);

  // Whether every fragment of the range has room in the buffer, and the buffer can be used at all.
  [[nodiscard]] bool takes(const BlockSlice& slice) const noexcept;
  // Precondition: takes() what the copy's range is.
  [[nodiscard]] Status copy(const StagedCopy& copy, const CopySlots& copy_slots, cuda::Stream stream);

 private:
  struct Chunk;
  Staging(DeviceMemory memory, CudaEvent used) noexcept : memory_(std::move(memory)), used_(std::move(used)) {}

  [[nodiscard]] Status copy_all(const StagedCopy& copy, const CopySlots& copy_slots, cuda::Stream stream);
  [[nodiscard]] Status copy_chunk(const StagedCopy& copy, const Chunk& chunk, const CopySlots& copy_slots,
                                  cuda::Stream stream);
  [[nodiscard]] Status copy_host_side(const StagedCopy& copy, const Chunk& chunk, cuda::Stream stream);

  DeviceMemory memory_;
  CudaEvent used_;        // the end of the latest use
  bool is_lost_ = false;  // that end could not be marked
  std::vector<SlotPair> by_host_;
  std::vector<CopyRect> rects_;
  KernelScratch kernel_;
};

}  // namespace kvtier
