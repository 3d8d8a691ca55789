#include "transfer/device/device_verifier.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

// Words of 2 GiB of blocks in whole leaves, and so of at least one block.
constexpr std::uint64_t kResultBytes = std::uint64_t{256} << 10;

}  // namespace

Result<std::unique_ptr<DeviceVerifier>> DeviceVerifier::create(std::shared_ptr<const CudaContext> context,
                                                               const DeviceKernels& kernels) {
  Result<CudaStream> stream = CudaStream::create(context, CudaStreamPriority::kHigh);
  if (!stream.is_ok()) return stream.status();
  Result<DeviceMemory> results = DeviceMemory::allocate(std::move(context), kResultBytes);
  if (!results.is_ok()) return results.status();
  return std::unique_ptr<DeviceVerifier>(
      new DeviceVerifier(kernels, std::move(stream).value(), std::move(results).value()));
}

DeviceVerifier::DeviceVerifier(const DeviceKernels& kernels, CudaStream stream, DeviceMemory results)
    : kernels_(kernels), stream_(std::move(stream)), results_(std::move(results)) {}

Status DeviceVerifier::make_checksums(const GroupShape& shape, std::span<const Payload> payloads,
                                      std::span<Checksum> checksums) {
  KVTIER_CHECK(payloads.size() == checksums.size());
  const std::size_t words_each = shape.parts * leaves_of_part(shape.part_bytes());
  const std::size_t most = kResultBytes / sizeof(std::uint64_t) / words_each;
  if (most == 0) {
    return Status(Code::kUnsupported, "a block of " + std::to_string(words_each) +
                                          " leaves is too large to be verified "
                                          "on a GPU");
  }
  const std::lock_guard guard(mutex_);
  for (std::size_t first = 0; first < payloads.size(); first += most) {
    const std::size_t count = std::min(most, payloads.size() - first);
    if (Status status = hash(shape, payloads.subspan(first, count), words_each); !status.is_ok()) return status;
    for (std::size_t i = 0; i < count; ++i) {
      checksums[first + i] = checksum_of_leaves(
          std::span<const std::uint64_t>(words_).subspan(i * words_each, words_each), payloads[first + i].seed);
    }
  }
  return Status::ok();
}

Status DeviceVerifier::hash(const GroupShape& shape, std::span<const Payload> payloads, std::size_t words_each) {
  jobs_.clear();
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    jobs_.push_back({.payload = payloads[i].address,
                     .part_bytes = shape.part_bytes(),
                     .parts = shape.parts,
                     .seed = payloads[i].seed,
                     .result = results_.address() + i * words_each * sizeof(std::uint64_t)});
  }
  words_.resize(payloads.size() * words_each);
  const cuda::Functions& functions = results_.context()->functions();
  Status status = kernels_.hash_leaves(jobs_, stream_.handle());
  if (status.is_ok()) {
    status = cuda::to_status(functions,
                             functions.memcpy_dtoh_async(words_.data(), results_.address(),
                                                         words_.size() * sizeof(std::uint64_t), stream_.handle()),
                             "cuMemcpyDtoHAsync of leaf hashes");
  }
  // Also after a failure: launches that were queued write into the results.
  const Status ran = stream_.synchronize();
  return status.is_ok() ? ran : status;
}

}  // namespace kvtier
