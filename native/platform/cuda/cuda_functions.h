// The functions of CUDA's driver that kvtier calls, in one list: name in the table, the driver's base name, the
// exported name, the CUDA version whose form of it is meant, and the signature. From it come the table that a driver
// fills, and the simulated driver's exports.
#pragma once

#include "platform/cuda/cuda_types.h"

namespace kvtier::cuda {

// Columns: member, base name (for cuGetProcAddress), exported symbol (for dlsym), CUDA version of this form in 1000 *
// major + 10 * minor, return and parameters. Without one of these a driver is too old for kvtier.
#define KVTIER_CUDA_REQUIRED(X)                                                                                     \
  X(init, "cuInit", "cuInit", 2000, Error(unsigned flags))                                                          \
  X(driver_get_version, "cuDriverGetVersion", "cuDriverGetVersion", 2020, Error(int* version))                      \
  X(get_error_name, "cuGetErrorName", "cuGetErrorName", 6000, Error(Error error, const char** name))                \
  X(get_error_string, "cuGetErrorString", "cuGetErrorString", 6000, Error(Error error, const char** text))          \
  X(device_get_count, "cuDeviceGetCount", "cuDeviceGetCount", 2000, Error(int* count))                              \
  X(device_get, "cuDeviceGet", "cuDeviceGet", 2000, Error(Device* device, int ordinal))                             \
  X(device_get_name, "cuDeviceGetName", "cuDeviceGetName", 2000, Error(char* name, int length, Device device))      \
  X(device_get_uuid, "cuDeviceGetUuid", "cuDeviceGetUuid_v2", 11040, Error(Uuid* uuid, Device device))              \
  X(device_get_attribute, "cuDeviceGetAttribute", "cuDeviceGetAttribute", 2000,                                     \
    Error(int* value, DeviceAttribute attribute, Device device))                                                    \
  X(device_total_mem, "cuDeviceTotalMem", "cuDeviceTotalMem_v2", 3020, Error(std::size_t* bytes, Device device))    \
  X(device_primary_ctx_retain, "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRetain", 7000,                        \
    Error(Context* context, Device device))                                                                         \
  X(device_primary_ctx_release, "cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxRelease_v2", 11000,                 \
    Error(Device device))                                                                                           \
  X(ctx_set_current, "cuCtxSetCurrent", "cuCtxSetCurrent", 4000, Error(Context context))                            \
  X(ctx_get_current, "cuCtxGetCurrent", "cuCtxGetCurrent", 4000, Error(Context* context))                           \
  X(ctx_get_stream_priority_range, "cuCtxGetStreamPriorityRange", "cuCtxGetStreamPriorityRange", 5050,              \
    Error(int* least, int* greatest))                                                                               \
  X(mem_alloc, "cuMemAlloc", "cuMemAlloc_v2", 3020, Error(DevicePtr* pointer, std::size_t bytes))                   \
  X(mem_free, "cuMemFree", "cuMemFree_v2", 3020, Error(DevicePtr pointer))                                          \
  X(mem_get_info, "cuMemGetInfo", "cuMemGetInfo_v2", 3020, Error(std::size_t* free, std::size_t* total))            \
  X(mem_host_register, "cuMemHostRegister", "cuMemHostRegister_v2", 6050,                                           \
    Error(void* pointer, std::size_t bytes, unsigned flags))                                                        \
  X(mem_host_unregister, "cuMemHostUnregister", "cuMemHostUnregister", 4000, Error(void* pointer))                  \
  X(mem_host_get_device_pointer, "cuMemHostGetDevicePointer", "cuMemHostGetDevicePointer_v2", 3020,                 \
    Error(DevicePtr* device, void* host, unsigned flags))                                                           \
  X(mem_get_address_range, "cuMemGetAddressRange", "cuMemGetAddressRange_v2", 3020,                                 \
    Error(DevicePtr* base, std::size_t* bytes, DevicePtr pointer))                                                  \
  X(pointer_get_attribute, "cuPointerGetAttribute", "cuPointerGetAttribute", 4000,                                  \
    Error(void* data, PointerAttribute attribute, DevicePtr pointer))                                               \
  X(stream_create_with_priority, "cuStreamCreateWithPriority", "cuStreamCreateWithPriority", 5050,                  \
    Error(Stream* stream, unsigned flags, int priority))                                                            \
  X(stream_destroy, "cuStreamDestroy", "cuStreamDestroy_v2", 4000, Error(Stream stream))                            \
  X(stream_wait_event, "cuStreamWaitEvent", "cuStreamWaitEvent", 3020,                                              \
    Error(Stream stream, Event event, unsigned flags))                                                              \
  X(stream_synchronize, "cuStreamSynchronize", "cuStreamSynchronize", 2000, Error(Stream stream))                   \
  X(stream_query, "cuStreamQuery", "cuStreamQuery", 2000, Error(Stream stream))                                     \
  X(event_create, "cuEventCreate", "cuEventCreate", 2000, Error(Event* event, unsigned flags))                      \
  X(event_destroy, "cuEventDestroy", "cuEventDestroy_v2", 4000, Error(Event event))                                 \
  X(event_record, "cuEventRecord", "cuEventRecord", 2000, Error(Event event, Stream stream))                        \
  X(event_query, "cuEventQuery", "cuEventQuery", 2000, Error(Event event))                                          \
  X(event_synchronize, "cuEventSynchronize", "cuEventSynchronize", 2000, Error(Event event))                        \
  X(event_elapsed_time, "cuEventElapsedTime", "cuEventElapsedTime", 2000,                                           \
    Error(float* milliseconds, Event start, Event end))                                                             \
  X(memcpy_async, "cuMemcpyAsync", "cuMemcpyAsync", 4000,                                                           \
    Error(DevicePtr target, DevicePtr source, std::size_t bytes, Stream stream))                                    \
  X(memcpy_htod_async, "cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2", 3020,                                           \
    Error(DevicePtr target, const void* source, std::size_t bytes, Stream stream))                                  \
  X(memcpy_dtoh_async, "cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync_v2", 3020,                                           \
    Error(void* target, DevicePtr source, std::size_t bytes, Stream stream))                                        \
  X(memcpy_dtod_async, "cuMemcpyDtoDAsync", "cuMemcpyDtoDAsync_v2", 3020,                                           \
    Error(DevicePtr target, DevicePtr source, std::size_t bytes, Stream stream))                                    \
  X(memcpy_peer_async, "cuMemcpyPeerAsync", "cuMemcpyPeerAsync", 4000,                                              \
    Error(DevicePtr target, Context target_context, DevicePtr source, Context source_context, std::size_t bytes,    \
          Stream stream))                                                                                           \
  X(memcpy_2d_async, "cuMemcpy2DAsync", "cuMemcpy2DAsync_v2", 3020, Error(const Copy2D* copy, Stream stream))       \
  X(memset_d8_async, "cuMemsetD8Async", "cuMemsetD8Async", 3020,                                                    \
    Error(DevicePtr target, unsigned char value, std::size_t count, Stream stream))                                 \
  X(module_load_data, "cuModuleLoadData", "cuModuleLoadData", 2000, Error(Module* module, const void* image))       \
  X(module_unload, "cuModuleUnload", "cuModuleUnload", 2000, Error(Module module))                                  \
  X(module_get_function, "cuModuleGetFunction", "cuModuleGetFunction", 2000,                                        \
    Error(Function* function, Module module, const char* name))                                                     \
  X(launch_kernel, "cuLaunchKernel", "cuLaunchKernel", 4000,                                                        \
    Error(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
          unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters, void** extra))                 \
  X(ipc_get_mem_handle, "cuIpcGetMemHandle", "cuIpcGetMemHandle", 4010,                                             \
    Error(IpcMemHandle* handle, DevicePtr pointer))                                                                 \
  X(ipc_open_mem_handle, "cuIpcOpenMemHandle", "cuIpcOpenMemHandle_v2", 11000,                                      \
    Error(DevicePtr* pointer, IpcMemHandle handle, unsigned flags))                                                 \
  X(ipc_close_mem_handle, "cuIpcCloseMemHandle", "cuIpcCloseMemHandle", 4010, Error(DevicePtr pointer))             \
  X(ipc_get_event_handle, "cuIpcGetEventHandle", "cuIpcGetEventHandle", 4010,                                       \
    Error(IpcEventHandle* handle, Event event))                                                                     \
  X(ipc_open_event_handle, "cuIpcOpenEventHandle", "cuIpcOpenEventHandle", 4010,                                    \
    Error(Event* event, IpcEventHandle handle))

// The same for what kvtier can do without. The batch copy has two forms under one base name: 12.8's has a place for the
// index of the copy that failed, 13.0's has not; asking with the version of the other one is undefined behaviour.
#define KVTIER_CUDA_OPTIONAL(X)                                                                                      \
  X(memcpy_batch_async_12080, "cuMemcpyBatchAsync", "cuMemcpyBatchAsync", 12080,                                     \
    Error(DevicePtr* targets, DevicePtr* sources, std::size_t* sizes, std::size_t count, CopyAttributes* attributes, \
          std::size_t* attribute_starts, std::size_t attribute_count, std::size_t* failed, Stream stream))           \
  X(memcpy_batch_async_13000, "cuMemcpyBatchAsync", "cuMemcpyBatchAsync_v2", 13000,                                  \
    Error(DevicePtr* targets, DevicePtr* sources, std::size_t* sizes, std::size_t count, CopyAttributes* attributes, \
          std::size_t* attribute_starts, std::size_t attribute_count, Stream stream))                                \
  X(ctx_enable_peer_access, "cuCtxEnablePeerAccess", "cuCtxEnablePeerAccess", 4000,                                  \
    Error(Context peer, unsigned flags))                                                                             \
  X(device_can_access_peer, "cuDeviceCanAccessPeer", "cuDeviceCanAccessPeer", 4000,                                  \
    Error(int* can, Device device, Device peer))                                                                     \
  X(stream_write_value_64, "cuStreamWriteValue64", "cuStreamWriteValue64_v2", 11070,                                 \
    Error(Stream stream, DevicePtr address, std::uint64_t value, unsigned flags))                                    \
  X(stream_wait_value_64, "cuStreamWaitValue64", "cuStreamWaitValue64_v2", 11070,                                    \
    Error(Stream stream, DevicePtr address, std::uint64_t value, unsigned flags))

namespace signatures {
#define KVTIER_CUDA_SIGNATURE(member, base, symbol, version, ...) using member = __VA_ARGS__;
KVTIER_CUDA_REQUIRED(KVTIER_CUDA_SIGNATURE)
KVTIER_CUDA_OPTIONAL(KVTIER_CUDA_SIGNATURE)
#undef KVTIER_CUDA_SIGNATURE

// How a driver is asked for the functions above, itself found by dlsym: cuGetProcAddress_v2 (CUDA 12.0), before it
// cuGetProcAddress (11.3). Both succeed with a null function where the driver has none of that version, and fail where
// it is older than the version asked for.
using get_proc_address_v2 = Error(const char* base, void** function, int version, std::uint64_t flags, int* status);
using get_proc_address = Error(const char* base, void** function, int version, std::uint64_t flags);
}  // namespace signatures

// Flag for the two: no functions whose default stream is one a thread.
inline constexpr std::uint64_t kFindLegacyStream = 1;

// What a driver filled. Every required member is set in one that can be used; an optional one is nullptr where the
// driver has none.
struct Functions {
#define KVTIER_CUDA_MEMBER(member, base, symbol, version, ...) signatures::member* member = nullptr;
  KVTIER_CUDA_REQUIRED(KVTIER_CUDA_MEMBER)
  KVTIER_CUDA_OPTIONAL(KVTIER_CUDA_MEMBER)
#undef KVTIER_CUDA_MEMBER
};

}  // namespace kvtier::cuda
