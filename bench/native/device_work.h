// Work that keeps a GPU busy while copies are measured, as an engine's would: matrix products in a stream of their own.
// One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "memory/device/device_memory.h"
#include "platform/cuda/cuda_event.h"
#include "platform/cuda/cuda_stream.h"

namespace limits {

class DeviceWork {
 public:
  // `library` as for CudaDriver::get(); `size` is the matrices' number of rows, a multiple of 4. kUnsupported where the
  // build or the device has no such kernel.
  [[nodiscard]] static kvtier::Result<std::unique_ptr<DeviceWork>> make(const std::string& library, int ordinal,
                                                                        std::uint32_t size);
  DeviceWork(const DeviceWork&) = delete;
  DeviceWork& operator=(const DeviceWork&) = delete;
  ~DeviceWork();

  // Queues so many products, one after the other.
  [[nodiscard]] kvtier::Status start(unsigned products);
  // Whether all of them have run.
  [[nodiscard]] kvtier::Result<bool> is_done() const;
  // Waits for them: seconds on the device's clock, from the first one's start to the last one's end.
  [[nodiscard]] kvtier::Result<double> finish();
  // Whether the first and the last row of the last product are what they should be.
  [[nodiscard]] kvtier::Result<bool> is_right();

 private:
  DeviceWork(std::shared_ptr<const kvtier::CudaContext> context, std::uint32_t size, kvtier::CudaStream stream,
             kvtier::CudaEvent start, kvtier::CudaEvent end, kvtier::DeviceMemory memory);
  [[nodiscard]] kvtier::Status load();
  // Matrix 0 is the left one, 1 the right one, 2 the result.
  [[nodiscard]] std::uint64_t address_of(unsigned matrix) const noexcept;
  [[nodiscard]] kvtier::Status copy_matrix(unsigned matrix, std::vector<float>& values, bool to_device);

  const std::shared_ptr<const kvtier::CudaContext> context_;
  const std::uint32_t size_;
  kvtier::CudaStream stream_;
  kvtier::CudaEvent start_;
  kvtier::CudaEvent end_;
  kvtier::DeviceMemory memory_;
  kvtier::cuda::Module module_ = nullptr;
  kvtier::cuda::Function product_ = nullptr;
};

}  // namespace limits
