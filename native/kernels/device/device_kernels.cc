#include "kernels/device/device_kernels.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/check.h"
#include "kernels/device/cut_launches.h"
#include "kernels/device/launch.h"
#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

// As kernels.cu names them.
constexpr std::array kNames = {"kvtier_copy_slots_16", "kvtier_copy_slots_8",   "kvtier_copy_slots_4",
                               "kvtier_copy_slots_1",  "kvtier_hash_leaves_16", "kvtier_hash_leaves_1"};

// A block of the hashing kernel is one warp, which hashes a leaf at a time. So many read more at once than a link
// brings, and leave most of every GPU that has kernels to others.
constexpr unsigned kHashBlocks = 256;

Status cannot_load(const CudaContext& context, cuda::Error error, const std::string& what) {
  Status status = cuda::to_status(context.functions(), error, what);
  if (status.code() == Code::kDeviceLost) return status;
  return Status(Code::kUnsupported, "the device's kernels cannot be used: " + status.message());
}

}  // namespace

DeviceKernels::DeviceKernels(std::shared_ptr<const CudaContext> context) noexcept : context_(std::move(context)) {}

DeviceKernels::~DeviceKernels() {
  if (module_ == nullptr) return;
  // A lost device fails both; its modules have gone with it.
  const auto current = CurrentContext::enter(*context_);
  static_cast<void>(context_->functions().module_unload(module_));
}

Result<std::unique_ptr<DeviceKernels>> DeviceKernels::load(std::shared_ptr<const CudaContext> context,
                                                           const DeviceImages& images) {
  if (images.code == nullptr && images.ptx == nullptr) {
    return Status(Code::kUnsupported, "this build has no kernels for the device: it was made without CUDA's nvcc");
  }
  std::unique_ptr<DeviceKernels> kernels(new DeviceKernels(std::move(context)));
  const auto current = CurrentContext::enter(*kernels->context_);
  if (!current) return current.status();
  if (Status status = kernels->load_module(images); !status) return status;
  if (Status status = kernels->find_functions(); !status) return status;
  return kernels;
}

// PTX that the driver compiles is the second choice, for that takes it a while.
Status DeviceKernels::load_module(const DeviceImages& images) {
  const cuda::Functions& functions = context_->functions();
  const std::string asked = "cuModuleLoadData on device " + std::to_string(context_->device().ordinal);
  cuda::Error error = cuda::Error::kInvalidImage;
  for (const void* const image : {images.code, images.ptx}) {
    if (image == nullptr) continue;
    error = functions.module_load_data(&module_, image);
    if (error == cuda::Error::kSuccess) return Status::ok();
    module_ = nullptr;
    if (cuda::is_sticky(error)) break;
  }
  return cannot_load(*context_, error, asked);
}

// Finding a function also loads its code, where drivers put that off: so no launch has to, which could wait for all
// other work of the device.
Status DeviceKernels::find_functions() {
  static_assert(kNames.size() == kKernelCount);
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    const cuda::Error error = context_->functions().module_get_function(&functions_[i], module_, kNames[i]);
    if (error != cuda::Error::kSuccess) {
      return cannot_load(*context_, error, std::string("cuModuleGetFunction of ") + kNames[i]);
    }
  }
  return Status::ok();
}

Status DeviceKernels::launch(Kernel kernel, unsigned blocks, unsigned threads, void* parameter,
                             cuda::Stream stream) const {
  const cuda::Error error = context_->functions().launch_kernel(functions_[kernel], blocks, 1, 1, threads, 1, 1, 0,
                                                                stream, &parameter, nullptr);
  if (error == cuda::Error::kSuccess) return Status::ok();
  return cuda::to_status(context_->functions(), error, std::string("cuLaunchKernel of ") + kNames[kernel]);
}

Status DeviceKernels::copy_slots(const SlotCopy& copy, unsigned max_blocks, cuda::Stream stream) const {
  KVTIER_CHECK(max_blocks > 0);
  CopyLaunches launches(copy);
  const unsigned unit = launches.unit_bytes();
  const Kernel kernel = unit == 16 ? kCopy16 : unit == 8 ? kCopy8 : unit == 4 ? kCopy4 : kCopy1;
  for (device::CopyLaunch next; launches.next(next);) {
    Status status = launch(kernel, blocks_of(next, max_blocks), device::kCopyThreads, &next, stream);
    if (!status) return status;
  }
  return Status::ok();
}

Status DeviceKernels::hash_leaves(std::span<const LeafHashes> payloads, cuda::Stream stream) const {
  HashLaunches launches(payloads);
  for (device::HashLaunch next; launches.next(next);) {
    if (next.leaves == 0) continue;
    const Kernel kernel = launches.unit_bytes() == 16 ? kHash16 : kHash1;
    Status status = launch(kernel, std::min(next.leaves, kHashBlocks), device::kWarpLanes, &next, stream);
    if (!status) return status;
  }
  return Status::ok();
}

}  // namespace kvtier
