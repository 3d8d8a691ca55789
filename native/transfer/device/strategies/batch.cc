#include "transfer/device/strategies/batch.h"

#include <cstdint>
#include <string>

#include "core/check.h"
#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

constexpr std::size_t kNoneFailed = SIZE_MAX;

// Handles with a fixed meaning: 1 is the legacy stream by its name, 2 a thread's own default stream.
constexpr std::uintptr_t kLastNamedStream = 2;

// Queues what the arrays hold and empties them.
Status submit(const cuda::Functions& functions, cuda::SourceAccessOrder order, BatchScratch& scratch,
              cuda::Stream stream) {
  const std::size_t count = scratch.sizes.size();
  if (count == 0) return Status::ok();
  // One entry for the whole batch.
  cuda::CopyAttributes attributes;
  attributes.source_access_order = order;
  std::size_t start = 0;
  std::size_t failed = kNoneFailed;
  const cuda::Error error =
      functions.memcpy_batch_async_13000 != nullptr
          ? functions.memcpy_batch_async_13000(scratch.targets.data(), scratch.sources.data(), scratch.sizes.data(),
                                               count, &attributes, &start, 1, stream)
          : functions.memcpy_batch_async_12080(scratch.targets.data(), scratch.sources.data(), scratch.sizes.data(),
                                               count, &attributes, &start, 1, &failed, stream);
  scratch.targets.clear();
  scratch.sources.clear();
  scratch.sizes.clear();
  if (error == cuda::Error::kSuccess) return Status::ok();
  std::string what = "cuMemcpyBatchAsync of " + std::to_string(count) + " copies";
  if (failed < count) what += ", at copy " + std::to_string(failed);
  return cuda::to_status(functions, error, what);
}

}  // namespace

bool has_batch_copies(const cuda::Functions& functions) noexcept {
  return functions.memcpy_batch_async_13000 != nullptr || functions.memcpy_batch_async_12080 != nullptr;
}

bool takes_batches(cuda::Stream stream) noexcept {
  return reinterpret_cast<std::uintptr_t>(stream) > kLastNamedStream;
}

cuda::SourceAccessOrder batch_order(bool to_device) noexcept {
  return to_device ? cuda::SourceAccessOrder::kAny : cuda::SourceAccessOrder::kStream;
}

Status copy_batch(const cuda::Functions& functions, std::span<const CopyRect> rects, bool to_device,
                  cuda::SourceAccessOrder order, BatchScratch& scratch, cuda::Stream stream) {
  KVTIER_CHECK(has_batch_copies(functions) && takes_batches(stream));
  scratch.targets.reserve(kMaxBatchCopies);
  scratch.sources.reserve(kMaxBatchCopies);
  scratch.sizes.reserve(kMaxBatchCopies);
  for (const CopyRect& rect : rects) {
    for (std::uint64_t row = 0; row < rect.rows; ++row) {
      const std::uint64_t device = rect.device + rect.device_pitch * row;
      const std::uint64_t host = rect.host + rect.host_pitch * row;
      scratch.targets.push_back(to_device ? device : host);
      scratch.sources.push_back(to_device ? host : device);
      scratch.sizes.push_back(rect.width);
      if (scratch.sizes.size() < kMaxBatchCopies) continue;
      if (Status status = submit(functions, order, scratch, stream); !status.is_ok()) return status;
    }
  }
  return submit(functions, order, scratch, stream);
}

}  // namespace kvtier
