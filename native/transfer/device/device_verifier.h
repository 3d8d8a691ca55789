// Makes payload checksums of contiguous blocks in a GPU's memory, by the GPU: its kernel hashes the leaves, the CPU the
// few words that are left. One a GPU. Any thread of kvtier's own whose current context is the GPU's; it waits.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/status.h"
#include "digest/payload_checksum.h"
#include "kernels/device/device_kernels.h"
#include "layout/group_shape.h"
#include "memory/device/device_memory.h"
#include "platform/cuda/cuda_stream.h"

namespace kvtier {

class DeviceVerifier {
 public:
  // Fails as the stream and the memory for results do. `kernels` outlives it.
  [[nodiscard]] static Result<std::unique_ptr<DeviceVerifier>> create(std::shared_ptr<const CudaContext> context,
                                                                      const DeviceKernels& kernels);

  struct Payload {
    std::uint64_t address = 0;
    std::uint64_t seed = 0;
  };
  // The checksums of blocks of that shape, each contiguous at its address. What wrote them has run.
  [[nodiscard]] Status make_checksums(const GroupShape& shape, std::span<const Payload> payloads,
                                      std::span<Checksum> checksums);

 private:
  DeviceVerifier(const DeviceKernels& kernels, CudaStream stream, DeviceMemory results);
  [[nodiscard]] Status hash(const GroupShape& shape, std::span<const Payload> payloads, std::size_t words_each);

  const DeviceKernels& kernels_;
  std::mutex mutex_;  // guards the rest
  CudaStream stream_;
  DeviceMemory results_;
  std::vector<LeafHashes> jobs_;
  std::vector<std::uint64_t> words_;
};

}  // namespace kvtier
