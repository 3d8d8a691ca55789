// The driver's calls about itself, its devices and their contexts. Any thread.
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "support/sim-cuda/driver_state.h"

namespace kvtier::sim::calls {

using cuda::Device;
using cuda::DeviceAttribute;
using cuda::Error;

Error init(unsigned flags) {
  DriverState& state = driver_state();
  Call call(Function::init, Needs::kNothing);
  if (!call) return call.error();
  if (flags != 0) return Error::kInvalidValue;
  if (state.devices.empty()) return Error::kNoDevice;
  state.process.store(::getpid());
  state.scheduler.start();
  return Error::kSuccess;
}

Error driver_get_version(int* version) {
  Call call(Function::driver_get_version, Needs::kNothing);
  if (!call) return call.error();
  if (version == nullptr) return Error::kInvalidValue;
  *version = call.state().settings.version;
  return Error::kSuccess;
}

Error device_get_count(int* count) {
  Call call(Function::device_get_count, Needs::kDriver);
  if (!call) return call.error();
  if (count == nullptr) return Error::kInvalidValue;
  *count = static_cast<int>(call.state().devices.size());
  return Error::kSuccess;
}

Error device_get(Device* device, int ordinal) {
  Call call(Function::device_get, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (device == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(ordinal, found); error != Error::kSuccess) return error;
  *device = ordinal;
  return Error::kSuccess;
}

Error device_get_name(char* name, int length, Device device) {
  Call call(Function::device_get_name, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (name == nullptr || length <= 0) return Error::kInvalidValue;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  std::snprintf(name, static_cast<std::size_t>(length), "kvtier simulated GPU %d", found->physical);
  return Error::kSuccess;
}

Error device_get_uuid(cuda::Uuid* uuid, Device device) {
  Call call(Function::device_get_uuid, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (uuid == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  *uuid = uuid_of(found->physical);
  return Error::kSuccess;
}

Error device_get_attribute(int* value, DeviceAttribute attribute, Device device) {
  Call call(Function::device_get_attribute, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (value == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  const Settings& settings = call.state().settings;
  switch (attribute) {
    case DeviceAttribute::kMaxPitch:
      *value = static_cast<int>(settings.max_pitch);
      return Error::kSuccess;
    case DeviceAttribute::kMultiprocessorCount:
      *value = 16;
      return Error::kSuccess;
    case DeviceAttribute::kPciBusId:
      *value = 0x10 + found->physical;
      return Error::kSuccess;
    case DeviceAttribute::kPciDeviceId:
    case DeviceAttribute::kPciDomainId:
      *value = 0;
      return Error::kSuccess;
    case DeviceAttribute::kAsyncEngineCount:
      *value = 3;
      return Error::kSuccess;
    case DeviceAttribute::kUnifiedAddressing:
      *value = 1;
      return Error::kSuccess;
    case DeviceAttribute::kGpuDirectRdmaSupported:
      *value = settings.rdma ? 1 : 0;
      return Error::kSuccess;
    case DeviceAttribute::kComputeCapabilityMajor:
      *value = settings.capability_major;
      return Error::kSuccess;
    case DeviceAttribute::kComputeCapabilityMinor:
      *value = settings.capability_minor;
      return Error::kSuccess;
    case DeviceAttribute::kCanUseHostPointerForRegisteredMemory:
      *value = settings.host_pointers ? 1 : 0;
      return Error::kSuccess;
    case DeviceAttribute::kCanUse64BitStreamMemOps:
      *value = settings.stream_values ? 1 : 0;
      return Error::kSuccess;
  }
  return Error::kInvalidValue;
}

Error device_total_mem(std::size_t* bytes, Device device) {
  Call call(Function::device_total_mem, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (bytes == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  *bytes = call.state().settings.memory_bytes;
  return Error::kSuccess;
}

Error device_primary_ctx_retain(cuda::Context* context, Device device) {
  Call call(Function::device_primary_ctx_retain, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (context == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  if (found->lost != Error::kSuccess) return found->lost;
  if (!found->primary) {
    auto made = std::make_shared<ContextState>();
    made->ordinal = device;
    made->handle = call.state().contexts.add(made);
    made->legacy = std::make_shared<StreamState>();
    made->legacy->context = made;
    made->legacy->is_legacy = true;
    call.scheduler().add(made->legacy);
    found->primary = std::move(made);
  }
  ++found->primary->retains;
  *context = found->primary->handle;
  return Error::kSuccess;
}

Error device_primary_ctx_release(Device device) {
  Call call(Function::device_primary_ctx_release, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  return call.state().release(*found);
}

Error ctx_set_current(cuda::Context context) {
  Call call(Function::ctx_set_current, Needs::kDriver);
  if (!call) return call.error();
  if (context != nullptr && !call.state().contexts.find(context)) {
    return call.state().contexts.was_given(context) ? Error::kContextIsDestroyed : Error::kInvalidContext;
  }
  set_current_context(context);
  return Error::kSuccess;
}

Error ctx_get_current(cuda::Context* context) {
  Call call(Function::ctx_get_current, Needs::kDriver);
  if (!call) return call.error();
  if (context == nullptr) return Error::kInvalidValue;
  *context = current_context();
  return Error::kSuccess;
}

Error ctx_get_stream_priority_range(int* least, int* greatest) {
  Call call(Function::ctx_get_stream_priority_range, Needs::kContext);
  if (!call) return call.error();
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return Error::kSuccess;
}

Error device_can_access_peer(int* can, Device device, Device peer) {
  Call call(Function::device_can_access_peer, Needs::kDriver);
  if (!call) return call.error();
  DeviceState* found = nullptr;
  if (can == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(device, found); error != Error::kSuccess) return error;
  if (const Error error = call.find(peer, found); error != Error::kSuccess) return error;
  *can = device != peer && call.state().settings.peers ? 1 : 0;
  return Error::kSuccess;
}

Error ctx_enable_peer_access(cuda::Context peer, unsigned flags) {
  Call call(Function::ctx_enable_peer_access, Needs::kContext);
  if (!call) return call.error();
  const std::shared_ptr<ContextState> other = call.state().contexts.find(peer);
  if (flags != 0) return Error::kInvalidValue;
  if (!other || other == call.context()) return Error::kInvalidContext;
  if (!call.state().settings.peers) return Error::kPeerAccessUnsupported;
  return call.context()->peers.insert(other->ordinal).second ? Error::kSuccess : Error::kPeerAccessAlreadyEnabled;
}

}  // namespace kvtier::sim::calls
