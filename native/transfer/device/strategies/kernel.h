// Copies by a kernel, which reaches host memory that is mapped for the device, or a staging buffer there. A thread
// whose current context is the stream's; a KernelScratch belongs to one call at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/status.h"
#include "kernels/device/device_kernels.h"
#include "transfer/device/copy_rects.h"

namespace kvtier {

// Whose kernel copies slots: DeviceKernels::copy_slots(), or a test's own.
using CopySlots = std::function<Status(const SlotCopy& copy, unsigned max_blocks, cuda::Stream stream)>;

// What a launch is given, kept so that queueing allocates nothing.
struct KernelScratch {
  std::vector<KernelFragment> fragments;
  std::vector<KernelSlots> slots;
};

// The host side of a copy as the kernel addresses it: slots of `stride` bytes, of which the fragments take the bytes
// from `offset` on.
struct KernelHost {
  std::uint64_t base = 0;
  std::uint64_t stride = 0;
  std::uint64_t offset = 0;
};

// Copies the fragments of the slots that scratch.slots names.
[[nodiscard]] Status copy_by_kernel(const CopySlots& copy_slots, const DeviceSlots& device,
                                    std::span<const Fragment> fragments, const KernelHost& host, bool to_device,
                                    unsigned max_blocks, KernelScratch& scratch, cuda::Stream stream);

}  // namespace kvtier
