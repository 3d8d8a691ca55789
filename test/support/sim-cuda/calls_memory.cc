// The driver's calls about memory. Any thread.
#include "support/sim-cuda/driver_state.h"

namespace kvtier::sim::calls {

using cuda::DevicePtr;
using cuda::Error;
using cuda::MemoryType;
using cuda::PointerAttribute;

Error mem_alloc(DevicePtr* pointer, std::size_t bytes) {
  Call call(Function::mem_alloc, Needs::kContext);
  if (!call) return call.error();
  if (pointer == nullptr) return Error::kInvalidValue;
  return call.state().memory.allocate(call.context(), bytes, *pointer);
}

Error mem_free(DevicePtr pointer) {
  Call call(Function::mem_free, Needs::kContext);
  if (!call) return call.error();
  if (pointer == 0) return Error::kSuccess;
  return call.state().memory.free(pointer);
}

Error mem_get_info(std::size_t* free, std::size_t* total) {
  Call call(Function::mem_get_info, Needs::kContext);
  if (!call) return call.error();
  if (free == nullptr || total == nullptr) return Error::kInvalidValue;
  *total = call.state().settings.memory_bytes;
  *free = *total - call.state().memory.used_bytes(call.context()->ordinal);
  return Error::kSuccess;
}

Error mem_host_register(void* pointer, std::size_t bytes, unsigned flags) {
  Call call(Function::mem_host_register, Needs::kContext);
  if (!call) return call.error();
  return call.state().memory.register_host(call.context(), pointer, bytes, flags);
}

Error mem_host_unregister(void* pointer) {
  Call call(Function::mem_host_unregister, Needs::kContext);
  if (!call) return call.error();
  return call.state().memory.unregister_host(pointer);
}

Error mem_host_get_device_pointer(DevicePtr* device, void* host, unsigned flags) {
  Call call(Function::mem_host_get_device_pointer, Needs::kContext);
  if (!call) return call.error();
  if (device == nullptr || flags != 0) return Error::kInvalidValue;
  const Memory::Found found = call.state().memory.find(reinterpret_cast<std::uint64_t>(host), 1);
  if (!found.region || found.by_mapped_address || found.region->mapped_address == 0) return Error::kInvalidValue;
  *device = found.region->mapped_address + found.offset;
  return Error::kSuccess;
}

Error mem_get_address_range(DevicePtr* base, std::size_t* bytes, DevicePtr pointer) {
  Call call(Function::mem_get_address_range, Needs::kContext);
  if (!call) return call.error();
  const Memory::Found found = call.state().memory.find(pointer, 1);
  if (!found.region || found.crosses || found.region->gone || !found.region->is_device()) return Error::kNotFound;
  if (base != nullptr) *base = found.region->address;
  if (bytes != nullptr) *bytes = found.region->bytes;
  return Error::kSuccess;
}

Error pointer_get_attribute(void* data, PointerAttribute attribute, DevicePtr pointer) {
  Call call(Function::pointer_get_attribute, Needs::kContext);
  if (!call) return call.error();
  if (data == nullptr) return Error::kInvalidValue;
  const Memory::Found found = call.state().memory.find(pointer, 1);
  if (!found.region || found.crosses || found.region->gone) return Error::kInvalidValue;
  const Region& region = *found.region;
  switch (attribute) {
    case PointerAttribute::kContext:
      *static_cast<cuda::Context*>(data) = region.context->handle;
      return Error::kSuccess;
    case PointerAttribute::kMemoryType:
      *static_cast<MemoryType*>(data) = region.is_device() ? MemoryType::kDevice : MemoryType::kHost;
      return Error::kSuccess;
    case PointerAttribute::kBufferId:
      *static_cast<unsigned long long*>(data) = region.id;
      return Error::kSuccess;
    case PointerAttribute::kDeviceOrdinal:
      *static_cast<int*>(data) = region.ordinal;
      return Error::kSuccess;
    case PointerAttribute::kIsLegacyIpcCapable:
      *static_cast<bool*>(data) = region.kind == Region::Kind::kDevice && region.ipc_capable;
      return Error::kSuccess;
    case PointerAttribute::kRangeStart:
      *static_cast<DevicePtr*>(data) = found.by_mapped_address ? region.mapped_address : region.address;
      return Error::kSuccess;
    case PointerAttribute::kRangeSize:
      *static_cast<std::size_t*>(data) = region.bytes;
      return Error::kSuccess;
  }
  return Error::kInvalidValue;
}

}  // namespace kvtier::sim::calls
