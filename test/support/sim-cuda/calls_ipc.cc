// The driver's calls that share memory and events with other processes. Any thread.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <utility>

#include "support/sim-cuda/driver_state.h"
#include "support/sim-cuda/ipc.h"

namespace kvtier::sim::calls {

using cuda::DevicePtr;
using cuda::Error;
using cuda::Event;
using cuda::IpcEventHandle;
using cuda::IpcMemHandle;

Error ipc_get_mem_handle(IpcMemHandle* handle, DevicePtr pointer) {
  Call call(Function::ipc_get_mem_handle, Needs::kContext);
  if (!call) return call.error();
  if (handle == nullptr) return Error::kInvalidValue;
  const Memory::Found found = call.state().memory.find(pointer, 1);
  if (!found.region || found.crosses || found.region->gone || found.region->kind != Region::Kind::kDevice ||
      !found.region->ipc_capable) {
    return Error::kInvalidValue;
  }
  // The handle stands for the whole allocation, wherever the pointer points in it.
  const DeviceState& device = call.state().devices[static_cast<std::size_t>(found.region->ordinal)];
  const FileHandle made =
      handle_of(kMemoryMagic, found.region->memory.file(), found.region->bytes, uuid_of(device.physical));
  std::memcpy(handle->bytes.data(), &made, sizeof(made));
  return Error::kSuccess;
}

namespace {

// Enters this process in the list of those that have the memory open.
void announce(Region& region) {
  for (std::atomic<std::int32_t>& importer : region.memory.shared().importers) {
    std::int32_t nobody = 0;
    if (importer.compare_exchange_strong(nobody, ::getpid())) return;
  }
}

}  // namespace

Error ipc_open_mem_handle(DevicePtr* pointer, IpcMemHandle handle, unsigned flags) {
  Call call(Function::ipc_open_mem_handle, Needs::kContext);
  if (!call) return call.error();
  FileHandle wanted;
  std::memcpy(&wanted, handle.bytes.data(), sizeof(wanted));
  if (pointer == nullptr || flags != cuda::kIpcLazyEnablePeerAccess) return Error::kInvalidValue;
  if (wanted.magic != kMemoryMagic) return Error::kInvalidHandle;
  if (wanted.process == ::getpid()) return Error::kInvalidContext;
  DriverState& state = call.state();
  if (std::shared_ptr<Region> open = state.memory.find_import(wanted.process, wanted.file_number, *call.context())) {
    ++open->opens;
    *pointer = open->address;
    return Error::kSuccess;
  }
  int ordinal = -1;
  for (std::size_t index = 0; index < state.devices.size(); ++index) {
    if (uuid_of(state.devices[index].physical).bytes == wanted.device.bytes) ordinal = static_cast<int>(index);
  }
  if (ordinal < 0) return Error::kMapFailed;
  if (ordinal != call.context()->ordinal && !state.settings.peers) return Error::kPeerAccessUnsupported;
  Fd owner_process = watch(wanted.process);
  Fd file = open_file(wanted);
  if (!owner_process.is_open() || !file.is_open()) return Error::kMapFailed;
  std::optional<DeviceBytes> memory = DeviceBytes::adopt(std::move(file), wanted.bytes);
  if (!memory) return Error::kMapFailed;
  auto region = std::make_shared<Region>();
  region->kind = Region::Kind::kImported;
  region->context = call.context();
  region->ordinal = ordinal;
  region->address = memory->address();
  region->alias = memory->alias();
  region->bytes = wanted.bytes;
  region->ipc_capable = false;
  region->memory = std::move(*memory);
  region->owner = wanted.process;
  region->owner_process = std::move(owner_process);
  region->file_number = wanted.file_number;
  region->opens = 1;
  if (region->is_orphan()) return Error::kMapFailed;
  announce(*region);
  *pointer = region->address;
  state.memory.add_import(std::move(region));
  return Error::kSuccess;
}

Error ipc_close_mem_handle(DevicePtr pointer) {
  Call call(Function::ipc_close_mem_handle, Needs::kContext);
  if (!call) return call.error();
  return call.state().memory.close_import(pointer);
}

Error ipc_get_event_handle(IpcEventHandle* handle, Event event) {
  Call call(Function::ipc_get_event_handle, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<EventState> found;
  if (handle == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(event, found); error != Error::kSuccess) return error;
  if (!found->shared || !found->shared->is_owner) return Error::kInvalidHandle;
  const DeviceState& device = call.state().devices[static_cast<std::size_t>(found->context->ordinal)];
  const FileHandle made = handle_of(kEventMagic, found->shared->file.get(), page_bytes(), uuid_of(device.physical));
  std::memcpy(handle->bytes.data(), &made, sizeof(made));
  return Error::kSuccess;
}

Error ipc_open_event_handle(Event* event, IpcEventHandle handle) {
  Call call(Function::ipc_open_event_handle, Needs::kContext);
  if (!call) return call.error();
  FileHandle wanted;
  std::memcpy(&wanted, handle.bytes.data(), sizeof(wanted));
  if (event == nullptr) return Error::kInvalidValue;
  if (wanted.magic != kEventMagic) return Error::kInvalidHandle;
  if (wanted.process == ::getpid()) return Error::kInvalidContext;
  Fd file = open_file(wanted);
  if (!file.is_open()) return Error::kMapFailed;
  std::optional<Mapping> mapping = Mapping::of_file(file.get(), 0, page_bytes(), PROT_READ | PROT_WRITE);
  if (!mapping) return Error::kMapFailed;
  auto made = std::make_shared<EventState>();
  made->context = call.context();
  made->flags = cuda::kEventDisableTiming | cuda::kEventInterprocess;
  made->shared = std::make_shared<SharedEvent>();
  made->shared->mapping = std::move(*mapping);
  made->shared->is_owner = false;
  *event = call.state().events.add(std::move(made));
  return Error::kSuccess;
}

}  // namespace kvtier::sim::calls
