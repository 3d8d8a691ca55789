// Batch copies: many runs in one call of the driver, which costs the CPU and the device less than as many calls. A
// thread whose current context is the stream's; a BatchScratch belongs to one call at a time.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/status.h"
#include "platform/cuda/cuda_functions.h"
#include "transfer/device/copy_rects.h"

namespace kvtier {

// Copies of one call. Drivers have crashed and hung with more than ten times as many.
inline constexpr std::size_t kMaxBatchCopies = 4096;

// The arrays of a call, kept so that queueing allocates nothing.
struct BatchScratch {
  std::vector<cuda::DevicePtr> targets;
  std::vector<cuda::DevicePtr> sources;
  std::vector<std::size_t> sizes;
};

// Whether the driver has the call, in either of its forms.
[[nodiscard]] bool has_batch_copies(const cuda::Functions& functions) noexcept;
// Whether the driver takes batches in the stream: not in the ones that programs use without naming one.
[[nodiscard]] bool takes_batches(cuda::Stream stream) noexcept;

// When the source of a batch may be read. From the device it is read in stream order, after the work that produces the
// bytes: with any other order the copy engine may read them before, also though the stream waits for that work. To the
// device it may be read from the call on: the caller of a copier promises that host bytes are complete before the call
// and stay as they are until the stream has run. Nothing that is queued produces them, so there is no order to keep,
// and the driver may fetch them while the stream still waits. The targets are written in stream order either way.
[[nodiscard]] cuda::SourceAccessOrder batch_order(bool to_device) noexcept;

// Every row, in as many calls as the limit asks for. Preconditions: has_batch_copies(), takes_batches().
[[nodiscard]] Status copy_batch(const cuda::Functions& functions, std::span<const CopyRect> rects, bool to_device,
                                cuda::SourceAccessOrder order, BatchScratch& scratch, cuda::Stream stream);

}  // namespace kvtier
