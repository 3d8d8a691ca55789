#include "transfer/device/strategies/single.h"

#include <string>

#include "platform/cuda/cuda_error.h"

namespace kvtier {

cuda::Error copy_run(const cuda::Functions& functions, bool to_device, std::uint64_t device, std::uint64_t host,
                     std::uint64_t bytes, cuda::Stream stream) {
  void* const host_bytes = reinterpret_cast<void*>(host);
  return to_device ? functions.memcpy_htod_async(device, host_bytes, bytes, stream)
                   : functions.memcpy_dtoh_async(host_bytes, device, bytes, stream);
}

Status copy_single(const cuda::Functions& functions, std::span<const CopyRect> rects, bool to_device,
                   cuda::Stream stream) {
  for (const CopyRect& rect : rects) {
    for (std::uint64_t row = 0; row < rect.rows; ++row) {
      const cuda::Error error = copy_run(functions, to_device, rect.device + rect.device_pitch * row,
                                         rect.host + rect.host_pitch * row, rect.width, stream);
      if (error != cuda::Error::kSuccess) {
        const char* const function = to_device ? "cuMemcpyHtoDAsync" : "cuMemcpyDtoHAsync";
        return cuda::to_status(functions, error, function + (" of " + std::to_string(rect.width) + " bytes"));
      }
    }
  }
  return Status::ok();
}

}  // namespace kvtier
