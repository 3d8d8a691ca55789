// The device's kernels, loaded into one context, and their launches: copying slots between device memory and mapped
// pinned host memory or a staging buffer, and hashing leaves of a payload. An optional capability: where they do not
// load (no kernels in the build, a device or driver that does not take them) blocks move by copies alone. load(): any
// thread. Launches: a thread whose current context is the one they were loaded into; several at once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "core/status.h"
#include "kernels/device/device_images.h"
#include "platform/cuda/cuda_context.h"

namespace kvtier {

// One run of every slot: the address of slot 0's run. All runs of a launch have one step and one length.
struct KernelFragment {
  std::uint64_t device = 0;       // address of the run of slot 0 in device memory
  std::uint64_t host_offset = 0;  // where the run lies in a host slot
};

struct KernelSlots {
  std::uint32_t device = 0;
  std::uint32_t host = 0;
};

// A copy of `slots` x `fragments` runs. Addresses, steps, offsets and lengths may be any, and the largest of 16, 8, 4
// or 1 bytes that they all are multiples of is what a thread moves at a time. Runs may not overlap in the target.
struct SlotCopy {
  std::span<const KernelFragment> fragments = {};
  std::uint64_t fragment_bytes = 0;  // of each run; below 2^38
  std::uint64_t device_step = 0;     // from a slot's run to the next slot's, in device memory
  std::uint64_t host_base = 0;       // as the device addresses it: mapped pinned memory, or device memory (staging)
  std::uint64_t host_stride = 0;
  std::span<const KernelSlots> slots = {};
  bool to_device = false;  // host -> device slots; else device slots -> host
};

// Leaves of a contiguous payload to hash: XXH3-64 of every 64 KiB (and the rest of each part), as digest/ does. Of the
// words, checksum_of_leaves() makes the payload checksum. Fast where the address and `part_bytes` are multiples of 16.
struct LeafHashes {
  std::uint64_t payload = 0;     // device address
  std::uint64_t part_bytes = 0;  // a leaf never crosses a part; not 0, below 2^38
  std::uint32_t parts = 1;
  std::uint64_t seed = 0;
  // Device address (mapped pinned memory is one), a multiple of 8: a little-endian word a leaf, in order, which is
  // parts * leaves_of_part(part_bytes) words.
  std::uint64_t result = 0;
};

class DeviceKernels {
 public:
  // kDeviceLost, or kUnsupported with the reason: there are none to load, or the device takes none of them.
  [[nodiscard]] static Result<std::unique_ptr<DeviceKernels>> load(std::shared_ptr<const CudaContext> context,
                                                                   const DeviceImages& images = device_images());
  DeviceKernels(const DeviceKernels&) = delete;
  DeviceKernels& operator=(const DeviceKernels&) = delete;
  // Precondition: no launch is queued any more.
  ~DeviceKernels();

  // Queues the copy in the stream, in as many launches as its parameters need; `max_blocks` (at least 1) is how many
  // thread blocks a launch may have, which bounds the share of the GPU that it takes. After a failure some launches may
  // be queued all the same.
  [[nodiscard]] Status copy_slots(const SlotCopy& copy, unsigned max_blocks, cuda::Stream stream) const;
  // Queues the hashing of every payload, which takes a small share of the GPU. After a failure some may be queued.
  [[nodiscard]] Status hash_leaves(std::span<const LeafHashes> payloads, cuda::Stream stream) const;

 private:
  // In the order of kNames in device_kernels.cc.
  enum Kernel : std::uint8_t { kCopy16, kCopy8, kCopy4, kCopy1, kHash16, kHash1, kKernelCount };

  explicit DeviceKernels(std::shared_ptr<const CudaContext> context) noexcept;
  [[nodiscard]] Status load_module(const DeviceImages& images);
  [[nodiscard]] Status find_functions();
  [[nodiscard]] Status launch(Kernel kernel, unsigned blocks, unsigned threads, void* parameter,
                              cuda::Stream stream) const;

  const std::shared_ptr<const CudaContext> context_;
  cuda::Module module_ = nullptr;
  std::array<cuda::Function, kKernelCount> functions_{};
};

}  // namespace kvtier
