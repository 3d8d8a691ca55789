// A fake driver; see fake_control.h. Three libraries are made of it, which differ in what they export (see
// native/cmake/fake-cuda.cmake).
#include <cstdint>
#include <cstdio>
#include <string_view>

#include "fake-cuda/fake_control.h"

namespace kvtier::fake {
namespace {

using cuda::Error;

Control& control() {
  static Control& one = *new Control;
  return one;
}

Error enter(std::string_view base, const char* symbol) {
  Control& state = control();
  state.calls.emplace_back(symbol);
  return state.failing == "*" || state.failing == base ? state.failure : Error::kSuccess;
}

}  // namespace

// The functions under the names that the driver has for them: here and in fake_stubs.cc.
namespace calls {
#define KVTIER_FAKE_DECLARE(member, base, symbol, version, ...) cuda::signatures::member member __asm__(symbol);
KVTIER_CUDA_REQUIRED(KVTIER_FAKE_DECLARE)
KVTIER_CUDA_OPTIONAL(KVTIER_FAKE_DECLARE)
#undef KVTIER_FAKE_DECLARE
}  // namespace calls
}  // namespace kvtier::fake

using kvtier::cuda::Context;
using kvtier::cuda::Device;
using kvtier::cuda::DeviceAttribute;
using kvtier::cuda::Error;
using kvtier::fake::control;
using kvtier::fake::enter;

extern "C" kvtier::fake::Control* kvtier_fake_control() {
  return &control();
}

namespace kvtier::fake::calls {

// Returns from the calling function when the call is to fail.
#define FAKE_ENTER(base, symbol)                                                         \
  do {                                                                                   \
    if (const Error error = enter(base, symbol); error != Error::kSuccess) return error; \
  } while (false)

Error init(unsigned) {
  FAKE_ENTER("cuInit", "cuInit");
  return Error::kSuccess;
}

Error driver_get_version(int* version) {
  FAKE_ENTER("cuDriverGetVersion", "cuDriverGetVersion");
  *version = control().version;
  return Error::kSuccess;
}

Error get_error_name(Error error, const char** name) {
  *name = error == Error::kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : nullptr;
  return *name != nullptr ? Error::kSuccess : Error::kInvalidValue;
}

Error get_error_string(Error error, const char** text) {
  *text = error == Error::kOutOfMemory ? "out of memory" : nullptr;
  return *text != nullptr ? Error::kSuccess : Error::kInvalidValue;
}

Error device_get_count(int* count) {
  FAKE_ENTER("cuDeviceGetCount", "cuDeviceGetCount");
  *count = control().device_count;
  return Error::kSuccess;
}

Error device_get(Device* device, int ordinal) {
  FAKE_ENTER("cuDeviceGet", "cuDeviceGet");
  *device = 100 + ordinal;
  return Error::kSuccess;
}

Error device_get_name(char* name, int length, Device device) {
  FAKE_ENTER("cuDeviceGetName", "cuDeviceGetName");
  std::snprintf(name, static_cast<std::size_t>(length), "Fake GPU %d", device);
  return Error::kSuccess;
}

Error device_get_uuid(cuda::Uuid* uuid, Device device) {
  FAKE_ENTER("cuDeviceGetUuid", "cuDeviceGetUuid_v2");
  uuid->bytes.fill(0xab);
  uuid->bytes[0] = static_cast<unsigned char>(device);
  return Error::kSuccess;
}

Error device_total_mem(std::size_t* bytes, Device device) {
  FAKE_ENTER("cuDeviceTotalMem", "cuDeviceTotalMem_v2");
  *bytes = static_cast<std::size_t>(device) << 30U;
  return Error::kSuccess;
}

Error device_get_attribute(int* value, DeviceAttribute attribute, Device device) {
  if (attribute == DeviceAttribute::kPciDomainId) FAKE_ENTER("PCI", "PCI");
  FAKE_ENTER("cuDeviceGetAttribute", "cuDeviceGetAttribute");
  *value = attribute == DeviceAttribute::kComputeCapabilityMajor   ? 9
           : attribute == DeviceAttribute::kComputeCapabilityMinor ? 0
           : attribute == DeviceAttribute::kPciBusId               ? device
                                                                   : 1;
  return Error::kSuccess;
}

Error device_primary_ctx_retain(Context* context, Device device) {
  FAKE_ENTER("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRetain");
  ++control().retained;
  *context = reinterpret_cast<Context>(static_cast<std::uintptr_t>(device) * 16);
  return Error::kSuccess;
}

Error device_primary_ctx_release(Device) {
  --control().retained;
  FAKE_ENTER("cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxRelease_v2");
  return Error::kSuccess;
}

Error ctx_set_current(Context context) {
  FAKE_ENTER("cuCtxSetCurrent", "cuCtxSetCurrent");
  control().current = context;
  return Error::kSuccess;
}

Error ctx_get_current(Context* context) {
  FAKE_ENTER("cuCtxGetCurrent", "cuCtxGetCurrent");
  *context = control().current;
  return Error::kSuccess;
}

Error ctx_get_stream_priority_range(int* least, int* greatest) {
  FAKE_ENTER("cuCtxGetStreamPriorityRange", "cuCtxGetStreamPriorityRange");
  *least = 0;
  *greatest = -5;
  return Error::kSuccess;
}

Error stream_create_with_priority(cuda::Stream* stream, unsigned flags, int priority) {
  FAKE_ENTER("cuStreamCreateWithPriority", "cuStreamCreateWithPriority");
  *stream = reinterpret_cast<cuda::Stream>(static_cast<std::uintptr_t>(++control().streams) * 256);
  control().stream_flags = flags;
  control().stream_priority = priority;
  return Error::kSuccess;
}

Error stream_destroy(cuda::Stream) {
  --control().streams;
  FAKE_ENTER("cuStreamDestroy", "cuStreamDestroy_v2");
  return Error::kSuccess;
}

Error event_create(cuda::Event* event, unsigned flags) {
  FAKE_ENTER("cuEventCreate", "cuEventCreate");
  *event = reinterpret_cast<cuda::Event>(static_cast<std::uintptr_t>(++control().events) * 256);
  control().event_flags = flags;
  return Error::kSuccess;
}

Error event_destroy(cuda::Event) {
  --control().events;
  FAKE_ENTER("cuEventDestroy", "cuEventDestroy_v2");
  return Error::kSuccess;
}

Error stream_wait_event(cuda::Stream, cuda::Event, unsigned) {
  FAKE_ENTER("cuStreamWaitEvent", "cuStreamWaitEvent");
  return Error::kSuccess;
}

Error stream_synchronize(cuda::Stream) {
  FAKE_ENTER("cuStreamSynchronize", "cuStreamSynchronize");
  return Error::kSuccess;
}

Error event_record(cuda::Event, cuda::Stream) {
  FAKE_ENTER("cuEventRecord", "cuEventRecord");
  return Error::kSuccess;
}

Error event_query(cuda::Event) {
  FAKE_ENTER("cuEventQuery", "cuEventQuery");
  return Error::kSuccess;
}

Error event_synchronize(cuda::Event) {
  FAKE_ENTER("cuEventSynchronize", "cuEventSynchronize");
  return Error::kSuccess;
}

Error memcpy_batch_async_12080(cuda::DevicePtr*, cuda::DevicePtr*, std::size_t*, std::size_t, cuda::CopyAttributes*,
                               std::size_t*, std::size_t, std::size_t*, cuda::Stream) {
  FAKE_ENTER("cuMemcpyBatchAsync", "cuMemcpyBatchAsync");
  return Error::kSuccess;
}

Error memcpy_batch_async_13000(cuda::DevicePtr*, cuda::DevicePtr*, std::size_t*, std::size_t, cuda::CopyAttributes*,
                               std::size_t*, std::size_t, cuda::Stream) {
  FAKE_ENTER("cuMemcpyBatchAsync", "cuMemcpyBatchAsync_v2");
  return Error::kSuccess;
}

}  // namespace kvtier::fake::calls

// How a driver answers for its functions: with the newest form that the version asked for knows.
namespace kvtier::fake {
namespace {

struct Entry {
  std::string_view base;
  int version;
  void* function;
};

#define KVTIER_FAKE_ENTRY(member, base, symbol, version, ...) {base, version, reinterpret_cast<void*>(&calls::member)},
const Entry kEntries[] = {KVTIER_CUDA_REQUIRED(KVTIER_FAKE_ENTRY) KVTIER_CUDA_OPTIONAL(KVTIER_FAKE_ENTRY)};
#undef KVTIER_FAKE_ENTRY

Error find(const char* base, void** function, int version) {
  Control& state = control();
  state.asked.emplace_back(base, version);
  *function = nullptr;
  if (version > state.version && !state.lenient) return Error::kInvalidValue;
  const int newest = version < state.version ? version : state.version;
  int chosen = 0;
  for (const Entry& entry : kEntries) {
    if (entry.base != base || entry.base == state.missing || entry.version > newest) continue;
    if (entry.version >= chosen) *function = entry.function;
    if (entry.version >= chosen) chosen = entry.version;
  }
  return Error::kSuccess;
}

}  // namespace
}  // namespace kvtier::fake

extern "C" Error cuGetProcAddress_v2(const char* base, void** function, int version, std::uint64_t, int* status) {
  const Error error = kvtier::fake::find(base, function, version);
  if (status != nullptr) *status = *function != nullptr ? 0 : 1;
  return error;
}

extern "C" Error cuGetProcAddress(const char* base, void** function, int version, std::uint64_t) {
  return kvtier::fake::find(base, function, version);
}
