// Two-dimensional copies: rows that lie at a constant distance on both sides are one copy. A thread whose current
// context is the stream's.
#pragma once

#include <span>

#include "core/status.h"
#include "platform/cuda/cuda_functions.h"
#include "transfer/device/copy_rects.h"

namespace kvtier {

// One copy a rectangle. A rectangle whose pitches exceed `max_pitch`, what the device takes, is copied row by row; with
// 0 every one is.
[[nodiscard]] Status copy_rectangles(const cuda::Functions& functions, std::span<const CopyRect> rects, bool to_device,
                                     std::uint64_t max_pitch, cuda::Stream stream);

}  // namespace kvtier
