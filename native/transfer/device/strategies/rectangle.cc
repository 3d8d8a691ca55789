#include "transfer/device/strategies/rectangle.h"

#include <algorithm>
#include <string>

#include "platform/cuda/cuda_error.h"
#include "transfer/device/strategies/single.h"

namespace kvtier {
namespace {

cuda::Copy2D copy_of(const CopyRect& rect, bool to_device) noexcept {
  cuda::Copy2D copy;
  copy.width_bytes = rect.width;
  copy.height = rect.rows;
  if (to_device) {
    copy.source_type = cuda::MemoryType::kHost;
    copy.source_host = reinterpret_cast<const void*>(rect.host);
    copy.source_pitch = rect.host_pitch;
    copy.target_type = cuda::MemoryType::kDevice;
    copy.target_device = rect.device;
    copy.target_pitch = rect.device_pitch;
  } else {
    copy.source_type = cuda::MemoryType::kDevice;
    copy.source_device = rect.device;
    copy.source_pitch = rect.device_pitch;
    copy.target_type = cuda::MemoryType::kHost;
    copy.target_host = reinterpret_cast<void*>(rect.host);
    copy.target_pitch = rect.host_pitch;
  }
  return copy;
}

}  // namespace

Status copy_rectangles(const cuda::Functions& functions, std::span<const CopyRect> rects, bool to_device,
                       std::uint64_t max_pitch, cuda::Stream stream) {
  for (const CopyRect& rect : rects) {
    if (rect.is_flat() || std::max(rect.device_pitch, rect.host_pitch) > max_pitch) {
      if (Status status = copy_single(functions, {&rect, 1}, to_device, stream); !status.is_ok()) return status;
      continue;
    }
    const cuda::Copy2D copy = copy_of(rect, to_device);
    if (const cuda::Error error = functions.memcpy_2d_async(&copy, stream); error != cuda::Error::kSuccess) {
      return cuda::to_status(
          functions, error,
          "cuMemcpy2DAsync of " + std::to_string(rect.rows) + " rows of " + std::to_string(rect.width) + " bytes");
    }
  }
  return Status::ok();
}

}  // namespace kvtier
