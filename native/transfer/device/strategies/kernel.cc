#include "transfer/device/strategies/kernel.h"

#include "core/check.h"
#include "core/try_reserve.h"

namespace kvtier {

Status copy_by_kernel(const CopySlots& copy_slots, const DeviceSlots& device, std::span<const Fragment> fragments,
                      const KernelHost& host, bool to_device, unsigned max_blocks, KernelScratch& scratch,
                      cuda::Stream stream) {
  if (Status status = try_reserve(scratch.fragments, fragments.size()); !status.is_ok()) return status;
  std::uint64_t at = host.offset;
  for (std::size_t first = 0; first < fragments.size();) {
    const Fragment& like = fragments[first];
    scratch.fragments.clear();
    std::size_t end = first;
    // A launch takes runs of one length and step.
    for (; end < fragments.size() && fragments[end].length == like.length && fragments[end].step == like.step; ++end) {
      const Fragment& fragment = fragments[end];
      KVTIER_CHECK(fragment.region < device.regions.size());
      scratch.fragments.push_back({.device = device.regions[fragment.region] + fragment.offset, .host_offset = at});
      at += fragment.length;
    }
    const SlotCopy copy{.fragments = scratch.fragments,
                        .fragment_bytes = like.length,
                        .device_step = like.step,
                        .host_base = host.base,
                        .host_stride = host.stride,
                        .slots = scratch.slots,
                        .to_device = to_device};
    if (Status status = copy_slots(copy, max_blocks, stream); !status.is_ok()) return status;
    first = end;
  }
  return Status::ok();
}

}  // namespace kvtier
