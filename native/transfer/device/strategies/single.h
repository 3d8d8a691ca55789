// The plainest strategy, which every driver and all host memory take: one asynchronous copy a run. A thread whose
// current context is the stream's.
#pragma once

#include <span>

#include "core/status.h"
#include "platform/cuda/cuda_functions.h"
#include "transfer/device/copy_rects.h"

namespace kvtier {

// One run of bytes.
[[nodiscard]] cuda::Error copy_run(const cuda::Functions& functions, bool to_device, std::uint64_t device,
                                   std::uint64_t host, std::uint64_t bytes, cuda::Stream stream);

// Every row of every rectangle by itself.
[[nodiscard]] Status copy_single(const cuda::Functions& functions, std::span<const CopyRect> rects, bool to_device,
                                 cuda::Stream stream);

}  // namespace kvtier
