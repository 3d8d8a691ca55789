// The copier with the kernels that this build has.
#include <utility>

#include "transfer/device/copier.h"

namespace kvtier {

Result<std::unique_ptr<Copier>> Copier::create(std::shared_ptr<const CudaContext> context,
                                               const CopierOptions& options) {
  Result<std::unique_ptr<DeviceKernels>> kernels = DeviceKernels::load(context);
  if (kernels.status().code() == Code::kDeviceLost) return kernels.status();
  if (!kernels.is_ok()) return create_with(std::move(context), options, kernels.status());
  const DeviceKernels* const loaded = kernels.value().get();
  CopySlots copy_slots = [loaded](const SlotCopy& copy, unsigned max_blocks, cuda::Stream stream) {
    return loaded->copy_slots(copy, max_blocks, stream);
  };
  auto copier = create_with(std::move(context), options, std::move(copy_slots));
  if (copier.is_ok()) copier.value()->device_kernels_ = std::move(kernels).value();
  return copier;
}

}  // namespace kvtier
