// The function table from CUDA's runtime, linked in statically: compiled with KVTIER_CUDA_API=runtime alone. The
// runtime does what it has a call for; what it lacks (contexts, modules, what a pointer belongs to, values in memory as
// fences) are the driver's own functions, asked for through the runtime. Streams and events of both are the same.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>

#include "platform/cuda/cuda_table.h"

static_assert(CUDART_VERSION >= 12050, "KVTIER_CUDA_API=runtime needs a CUDA toolkit of version 12.5 or later");

namespace kvtier {
namespace {

using cuda::DevicePtr;
using cuda::Error;

static_assert(sizeof(cuda::IpcMemHandle) == sizeof(cudaIpcMemHandle_t));
static_assert(sizeof(cuda::IpcEventHandle) == sizeof(cudaIpcEventHandle_t));
static_assert(cuda::kHostRegisterPortable == cudaHostRegisterPortable);
static_assert(cuda::kHostRegisterDeviceMap == cudaHostRegisterMapped);
static_assert(cuda::kHostRegisterReadOnly == cudaHostRegisterReadOnly);
static_assert(cuda::kEventBlockingSync == cudaEventBlockingSync);
static_assert(cuda::kEventDisableTiming == cudaEventDisableTiming);
static_assert(cuda::kEventInterprocess == cudaEventInterprocess);
static_assert(cuda::kStreamNonBlocking == cudaStreamNonBlocking);
static_assert(cuda::kIpcLazyEnablePeerAccess == cudaIpcMemLazyEnablePeerAccess);
static_assert(static_cast<int>(Error::kOutOfMemory) == cudaErrorMemoryAllocation);
static_assert(static_cast<int>(Error::kNoDevice) == cudaErrorNoDevice);
static_assert(static_cast<int>(Error::kNotReady) == cudaErrorNotReady);
static_assert(static_cast<int>(Error::kIllegalAddress) == cudaErrorIllegalAddress);
static_assert(static_cast<int>(Error::kLaunchFailed) == cudaErrorLaunchFailure);

// Both number their errors alike, but for the runtime's own, which no driver answers.
Error error_of(cudaError_t error) {
  return static_cast<Error>(static_cast<int>(error));
}

void* pointer(DevicePtr address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

cudaStream_t stream_of(cuda::Stream stream) {
  return reinterpret_cast<cudaStream_t>(stream);
}

cudaEvent_t event_of(cuda::Event event) {
  return reinterpret_cast<cudaEvent_t>(event);
}

Error copy(DevicePtr target, const void* source, std::size_t bytes, cudaMemcpyKind kind, cuda::Stream stream) {
  return error_of(cudaMemcpyAsync(pointer(target), source, bytes, kind, stream_of(stream)));
}

Error copy_2d(const cuda::Copy2D* copy, cuda::Stream stream) {
  if (copy == nullptr) return Error::kInvalidValue;
  const auto is_plain = [](cuda::MemoryType type) {
    return type == cuda::MemoryType::kHost || type == cuda::MemoryType::kDevice || type == cuda::MemoryType::kUnified;
  };
  if (!is_plain(copy->source_type) || !is_plain(copy->target_type)) return Error::kNotSupported;
  const bool from_host = copy->source_type == cuda::MemoryType::kHost;
  const bool to_host = copy->target_type == cuda::MemoryType::kHost;
  const void* const source = from_host ? copy->source_host : pointer(copy->source_device);
  void* const target = to_host ? copy->target_host : pointer(copy->target_device);
  return error_of(cudaMemcpy2DAsync(
      static_cast<std::byte*>(target) + copy->target_y * copy->target_pitch + copy->target_x_bytes, copy->target_pitch,
      static_cast<const std::byte*>(source) + copy->source_y * copy->source_pitch + copy->source_x_bytes,
      copy->source_pitch, copy->width_bytes, copy->height, cudaMemcpyDefault, stream_of(stream)));
}

void fill_general(cuda::Functions& table) {
  // The runtime starts with the first call that needs it: counting devices tells what cuInit would.
  table.init = [](unsigned) {
    int count = 0;
    return error_of(cudaGetDeviceCount(&count));
  };
  table.driver_get_version = [](int* version) { return error_of(cudaDriverGetVersion(version)); };
  table.get_error_name = [](Error error, const char** name) {
    *name = cudaGetErrorName(static_cast<cudaError_t>(error));
    return Error::kSuccess;
  };
  table.get_error_string = [](Error error, const char** text) {
    *text = cudaGetErrorString(static_cast<cudaError_t>(error));
    return Error::kSuccess;
  };
  table.device_get_count = [](int* count) { return error_of(cudaGetDeviceCount(count)); };
  table.ctx_get_stream_priority_range = [](int* least, int* greatest) {
    return error_of(cudaDeviceGetStreamPriorityRange(least, greatest));
  };
  table.device_can_access_peer = [](int* can, cuda::Device device, cuda::Device peer) {
    return error_of(cudaDeviceCanAccessPeer(can, device, peer));  // both number devices alike
  };
}

void fill_memory(cuda::Functions& table) {
  table.mem_alloc = [](DevicePtr* address, std::size_t bytes) {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    *address = reinterpret_cast<std::uintptr_t>(memory);
    return error_of(error);
  };
  table.mem_free = [](DevicePtr address) { return error_of(cudaFree(pointer(address))); };
  table.mem_get_info = [](std::size_t* free, std::size_t* total) { return error_of(cudaMemGetInfo(free, total)); };
  table.mem_host_register = [](void* memory, std::size_t bytes, unsigned flags) {
    return error_of(cudaHostRegister(memory, bytes, flags));
  };
  table.mem_host_unregister = [](void* memory) { return error_of(cudaHostUnregister(memory)); };
  table.mem_host_get_device_pointer = [](DevicePtr* address, void* host, unsigned flags) {
    void* device = nullptr;
    const cudaError_t error = cudaHostGetDevicePointer(&device, host, flags);
    *address = reinterpret_cast<std::uintptr_t>(device);
    return error_of(error);
  };
  table.ipc_get_mem_handle = [](cuda::IpcMemHandle* handle, DevicePtr address) {
    cudaIpcMemHandle_t made{};
    const cudaError_t error = cudaIpcGetMemHandle(&made, pointer(address));
    std::memcpy(handle, &made, sizeof made);
    return error_of(error);
  };
  table.ipc_open_mem_handle = [](DevicePtr* address, cuda::IpcMemHandle handle, unsigned flags) {
    cudaIpcMemHandle_t given{};
    std::memcpy(&given, &handle, sizeof given);
    void* memory = nullptr;
    const cudaError_t error = cudaIpcOpenMemHandle(&memory, given, flags);
    *address = reinterpret_cast<std::uintptr_t>(memory);
    return error_of(error);
  };
  table.ipc_close_mem_handle = [](DevicePtr address) { return error_of(cudaIpcCloseMemHandle(pointer(address))); };
}

void fill_streams_and_events(cuda::Functions& table) {
  table.stream_create_with_priority = [](cuda::Stream* stream, unsigned flags, int priority) {
    return error_of(cudaStreamCreateWithPriority(reinterpret_cast<cudaStream_t*>(stream), flags, priority));
  };
  table.stream_destroy = [](cuda::Stream stream) { return error_of(cudaStreamDestroy(stream_of(stream))); };
  table.stream_wait_event = [](cuda::Stream stream, cuda::Event event, unsigned flags) {
    return error_of(cudaStreamWaitEvent(stream_of(stream), event_of(event), flags));
  };
  table.stream_synchronize = [](cuda::Stream stream) { return error_of(cudaStreamSynchronize(stream_of(stream))); };
  table.stream_query = [](cuda::Stream stream) { return error_of(cudaStreamQuery(stream_of(stream))); };
  table.event_create = [](cuda::Event* event, unsigned flags) {
    return error_of(cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), flags));
  };
  table.event_destroy = [](cuda::Event event) { return error_of(cudaEventDestroy(event_of(event))); };
  table.event_record = [](cuda::Event event, cuda::Stream stream) {
    return error_of(cudaEventRecord(event_of(event), stream_of(stream)));
  };
  table.event_query = [](cuda::Event event) { return error_of(cudaEventQuery(event_of(event))); };
  table.event_synchronize = [](cuda::Event event) { return error_of(cudaEventSynchronize(event_of(event))); };
  table.event_elapsed_time = [](float* milliseconds, cuda::Event start, cuda::Event end) {
    return error_of(cudaEventElapsedTime(milliseconds, event_of(start), event_of(end)));
  };
  table.ipc_get_event_handle = [](cuda::IpcEventHandle* handle, cuda::Event event) {
    cudaIpcEventHandle_t made{};
    const cudaError_t error = cudaIpcGetEventHandle(&made, event_of(event));
    std::memcpy(handle, &made, sizeof made);
    return error_of(error);
  };
  table.ipc_open_event_handle = [](cuda::Event* event, cuda::IpcEventHandle handle) {
    cudaIpcEventHandle_t given{};
    std::memcpy(&given, &handle, sizeof given);
    return error_of(cudaIpcOpenEventHandle(reinterpret_cast<cudaEvent_t*>(event), given));
  };
}

void fill_copies(cuda::Functions& table) {
  table.memcpy_async = [](DevicePtr target, DevicePtr source, std::size_t bytes, cuda::Stream stream) {
    return copy(target, pointer(source), bytes, cudaMemcpyDefault, stream);
  };
  table.memcpy_htod_async = [](DevicePtr target, const void* source, std::size_t bytes, cuda::Stream stream) {
    return copy(target, source, bytes, cudaMemcpyHostToDevice, stream);
  };
  table.memcpy_dtoh_async = [](void* target, DevicePtr source, std::size_t bytes, cuda::Stream stream) {
    return error_of(cudaMemcpyAsync(target, pointer(source), bytes, cudaMemcpyDeviceToHost, stream_of(stream)));
  };
  table.memcpy_dtod_async = [](DevicePtr target, DevicePtr source, std::size_t bytes, cuda::Stream stream) {
    return copy(target, pointer(source), bytes, cudaMemcpyDeviceToDevice, stream);
  };
  // Addresses name their device, so that the runtime needs no contexts here.
  table.memcpy_peer_async = [](DevicePtr target, cuda::Context, DevicePtr source, cuda::Context, std::size_t bytes,
                               cuda::Stream stream) {
    return copy(target, pointer(source), bytes, cudaMemcpyDefault, stream);
  };
  table.memcpy_2d_async = copy_2d;
  table.memset_d8_async = [](DevicePtr target, unsigned char value, std::size_t count, cuda::Stream stream) {
    return error_of(cudaMemsetAsync(pointer(target), value, count, stream_of(stream)));
  };
}

#if CUDART_VERSION >= 12080
static_assert(sizeof(cuda::CopyAttributes) == sizeof(cudaMemcpyAttributes));
static_assert(offsetof(cuda::CopyAttributes, source_hint) == offsetof(cudaMemcpyAttributes, srcLocHint));
static_assert(offsetof(cuda::CopyAttributes, target_hint) == offsetof(cudaMemcpyAttributes, dstLocHint));
static_assert(offsetof(cuda::CopyAttributes, flags) == offsetof(cudaMemcpyAttributes, flags));

// The runtime takes arrays of pointers where the driver takes arrays of addresses.
static_assert(sizeof(DevicePtr) == sizeof(void*));

void fill_batch_copy(cuda::Functions& table, int driver_version) {
#if CUDART_VERSION >= 13000
  if (driver_version < 13000) return;
  table.memcpy_batch_async_13000 = [](DevicePtr* targets, DevicePtr* sources, std::size_t* sizes, std::size_t count,
                                      cuda::CopyAttributes* attributes, std::size_t* attribute_starts,
                                      std::size_t attribute_count, cuda::Stream stream) {
    return error_of(cudaMemcpyBatchAsync(
        reinterpret_cast<void* const*>(targets), reinterpret_cast<const void* const*>(sources), sizes, count,
        reinterpret_cast<cudaMemcpyAttributes*>(attributes), attribute_starts, attribute_count, stream_of(stream)));
  };
#else
  if (driver_version < 12080) return;
  table.memcpy_batch_async_12080 = [](DevicePtr* targets, DevicePtr* sources, std::size_t* sizes, std::size_t count,
                                      cuda::CopyAttributes* attributes, std::size_t* attribute_starts,
                                      std::size_t attribute_count, std::size_t* failed, cuda::Stream stream) {
    return error_of(cudaMemcpyBatchAsync(reinterpret_cast<void**>(targets), reinterpret_cast<void**>(sources), sizes,
                                         count, reinterpret_cast<cudaMemcpyAttributes*>(attributes), attribute_starts,
                                         attribute_count, failed, stream_of(stream)));
  };
#endif
}
#else
void fill_batch_copy(cuda::Functions& /*table*/, int /*driver_version*/) {}
#endif

// What the runtime has no call for, unless it filled the place already.
template <typename Signature>
void fill_from_driver(const char* base, int version, Signature*& function) {
  // The batch copy is the runtime's or none: its two forms are told apart by the runtime's own version.
  if (function != nullptr || std::strcmp(base, "cuMemcpyBatchAsync") == 0) return;
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(base, &found, static_cast<unsigned>(version), cudaEnableLegacyStream, &result);
  if (error == cudaSuccess && result == cudaDriverEntryPointSuccess) function = reinterpret_cast<Signature*>(found);
}

}  // namespace

CudaTable load_cuda_runtime() {
  CudaTable table;
  table.library = "CUDA's runtime " + cuda_version_text(CUDART_VERSION);
  fill_general(table.functions);
  fill_memory(table.functions);
  fill_streams_and_events(table.functions);
  fill_copies(table.functions);
  if (cudaDriverGetVersion(&table.version) != cudaSuccess || table.version == 0) {
    table.version = 0;
    table.state = CudaState::kAbsent;
    table.reason = table.library +
                   " found no driver: to use a GPU, install NVIDIA's driver, or start the container with access to the "
                   "GPU";
    return table;
  }
  fill_batch_copy(table.functions, table.version);
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    say_too_old(table, "what " + table.library + " needs");
    return table;
  }
  // Another failure is that of cuInit, and is told when the driver is started.
  if (error != cudaSuccess) return table;
#define KVTIER_CUDA_FILL(member, base, symbol, version, ...) fill_from_driver(base, version, table.functions.member);
  KVTIER_CUDA_REQUIRED(KVTIER_CUDA_FILL)
  KVTIER_CUDA_OPTIONAL(KVTIER_CUDA_FILL)
#undef KVTIER_CUDA_FILL
  check_required_functions(table);
  return table;
}

}  // namespace kvtier
