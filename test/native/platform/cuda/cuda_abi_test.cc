// Holds kvtier's own declarations of the driver's interface against the vendor's headers, where a toolkit of CUDA 13 or
// later is installed (an older one does not know all of it): functions when this is compiled, numbers when it runs.
#include <doctest/doctest.h>

#if __has_include(<cuda.h>) && __has_include(<cudaTypedefs.h>)
// Declares every form of a function under its exported name, and none of the macros that rename them.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaTypedefs.h>
#endif

#if defined(CUDA_VERSION) && CUDA_VERSION >= 13000

#include <cstddef>
#include <string_view>

#include "native/platform/same_call.h"
#include "platform/cuda/cuda_functions.h"

namespace {

namespace cuda = kvtier::cuda;
namespace signatures = kvtier::cuda::signatures;
using kvtier::same_call::SameCall;

// What a row of the table says of a function, as the table has it.
struct Row {
  std::string_view base;
  std::string_view symbol;
  int version;
};
namespace rows {
#define KVTIER_TEST_ROW(member, base, symbol, version, ...) constexpr Row member = {base, symbol, version};
KVTIER_CUDA_REQUIRED(KVTIER_TEST_ROW)
KVTIER_CUDA_OPTIONAL(KVTIER_TEST_ROW)
#undef KVTIER_TEST_ROW
}  // namespace rows

constexpr std::size_t kRows = 0
#define KVTIER_TEST_ONE(...) +1
    KVTIER_CUDA_REQUIRED(KVTIER_TEST_ONE) KVTIER_CUDA_OPTIONAL(KVTIER_TEST_ONE);

// The same rows in the vendor's names: the type of the exported function, and of the base name's form of that version.
#define KVTIER_TEST_FORMS(X)                                                                       \
  X(init, cuInit, cuInit, 2000)                                                                    \
  X(driver_get_version, cuDriverGetVersion, cuDriverGetVersion, 2020)                              \
  X(get_error_name, cuGetErrorName, cuGetErrorName, 6000)                                          \
  X(get_error_string, cuGetErrorString, cuGetErrorString, 6000)                                    \
  X(device_get_count, cuDeviceGetCount, cuDeviceGetCount, 2000)                                    \
  X(device_get, cuDeviceGet, cuDeviceGet, 2000)                                                    \
  X(device_get_name, cuDeviceGetName, cuDeviceGetName, 2000)                                       \
  X(device_get_uuid, cuDeviceGetUuid, cuDeviceGetUuid_v2, 11040)                                   \
  X(device_get_attribute, cuDeviceGetAttribute, cuDeviceGetAttribute, 2000)                        \
  X(device_total_mem, cuDeviceTotalMem, cuDeviceTotalMem_v2, 3020)                                 \
  X(device_primary_ctx_retain, cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, 7000)           \
  X(device_primary_ctx_release, cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, 11000)    \
  X(ctx_set_current, cuCtxSetCurrent, cuCtxSetCurrent, 4000)                                       \
  X(ctx_get_current, cuCtxGetCurrent, cuCtxGetCurrent, 4000)                                       \
  X(ctx_get_stream_priority_range, cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange, 5050) \
  X(mem_alloc, cuMemAlloc, cuMemAlloc_v2, 3020)                                                    \
  X(mem_free, cuMemFree, cuMemFree_v2, 3020)                                                       \
  X(mem_get_info, cuMemGetInfo, cuMemGetInfo_v2, 3020)                                             \
  X(mem_host_register, cuMemHostRegister, cuMemHostRegister_v2, 6050)                              \
  X(mem_host_unregister, cuMemHostUnregister, cuMemHostUnregister, 4000)                           \
  X(mem_host_get_device_pointer, cuMemHostGetDevicePointer, cuMemHostGetDevicePointer_v2, 3020)    \
  X(mem_get_address_range, cuMemGetAddressRange, cuMemGetAddressRange_v2, 3020)                    \
  X(pointer_get_attribute, cuPointerGetAttribute, cuPointerGetAttribute, 4000)                     \
  X(stream_create_with_priority, cuStreamCreateWithPriority, cuStreamCreateWithPriority, 5050)     \
  X(stream_destroy, cuStreamDestroy, cuStreamDestroy_v2, 4000)                                     \
  X(stream_wait_event, cuStreamWaitEvent, cuStreamWaitEvent, 3020)                                 \
  X(stream_synchronize, cuStreamSynchronize, cuStreamSynchronize, 2000)                            \
  X(stream_query, cuStreamQuery, cuStreamQuery, 2000)                                              \
  X(event_create, cuEventCreate, cuEventCreate, 2000)                                              \
  X(event_destroy, cuEventDestroy, cuEventDestroy_v2, 4000)                                        \
  X(event_record, cuEventRecord, cuEventRecord, 2000)                                              \
  X(event_query, cuEventQuery, cuEventQuery, 2000)                                                 \
  X(event_synchronize, cuEventSynchronize, cuEventSynchronize, 2000)                               \
  X(event_elapsed_time, cuEventElapsedTime, cuEventElapsedTime, 2000)                              \
  X(memcpy_async, cuMemcpyAsync, cuMemcpyAsync, 4000)                                              \
  X(memcpy_htod_async, cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, 3020)                              \
  X(memcpy_dtoh_async, cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, 3020)                              \
  X(memcpy_dtod_async, cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, 3020)                              \
  X(memcpy_peer_async, cuMemcpyPeerAsync, cuMemcpyPeerAsync, 4000)                                 \
  X(memcpy_2d_async, cuMemcpy2DAsync, cuMemcpy2DAsync_v2, 3020)                                    \
  X(memset_d8_async, cuMemsetD8Async, cuMemsetD8Async, 3020)                                       \
  X(module_load_data, cuModuleLoadData, cuModuleLoadData, 2000)                                    \
  X(module_unload, cuModuleUnload, cuModuleUnload, 2000)                                           \
  X(module_get_function, cuModuleGetFunction, cuModuleGetFunction, 2000)                           \
  X(launch_kernel, cuLaunchKernel, cuLaunchKernel, 4000)                                           \
  X(ipc_get_mem_handle, cuIpcGetMemHandle, cuIpcGetMemHandle, 4010)                                \
  X(ipc_open_mem_handle, cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2, 11000)                         \
  X(ipc_close_mem_handle, cuIpcCloseMemHandle, cuIpcCloseMemHandle, 4010)                          \
  X(ipc_get_event_handle, cuIpcGetEventHandle, cuIpcGetEventHandle, 4010)                          \
  X(ipc_open_event_handle, cuIpcOpenEventHandle, cuIpcOpenEventHandle, 4010)                       \
  X(ctx_enable_peer_access, cuCtxEnablePeerAccess, cuCtxEnablePeerAccess, 4000)                    \
  X(device_can_access_peer, cuDeviceCanAccessPeer, cuDeviceCanAccessPeer, 4000)                    \
  X(stream_write_value_64, cuStreamWriteValue64, cuStreamWriteValue64_v2, 11070)                   \
  X(stream_wait_value_64, cuStreamWaitValue64, cuStreamWaitValue64_v2, 11070)                      \
  X(memcpy_batch_async_12080, cuMemcpyBatchAsync, cuMemcpyBatchAsync, 12080)                       \
  X(memcpy_batch_async_13000, cuMemcpyBatchAsync, cuMemcpyBatchAsync_v2, 13000)

#define KVTIER_TEST_HOLD(member, base_name, symbol_name, version_number)                                         \
  static_assert(rows::member.base == #base_name);                                                                \
  static_assert(rows::member.symbol == #symbol_name);                                                            \
  static_assert(rows::member.version == version_number);                                                         \
  static_assert(SameCall<signatures::member, decltype(symbol_name)>::value, #member);                            \
  static_assert(SameCall<signatures::member, std::remove_pointer_t<PFN_##base_name##_v##version_number>>::value, \
                #member);
KVTIER_TEST_FORMS(KVTIER_TEST_HOLD)
constexpr std::size_t kHeld = 0 KVTIER_TEST_FORMS(KVTIER_TEST_ONE);
static_assert(kHeld == kRows, "a row of the table is not held against the vendor's headers");

static_assert(SameCall<signatures::get_proc_address_v2, decltype(cuGetProcAddress_v2)>::value);
static_assert(SameCall<signatures::get_proc_address, decltype(cuGetProcAddress)>::value);

// The comparison itself can fail.
static_assert(!SameCall<int(int), int(int, int)>::value);
static_assert(!SameCall<int(int), int(long)>::value);
static_assert(!SameCall<int(int*), int(const int*)>::value);
static_assert(!SameCall<int(int*), int(long*)>::value);
static_assert(!SameCall<int(int**), int(int*)>::value);
static_assert(!SameCall<int(cuda::IpcMemHandle), int(CUuuid)>::value);

}  // namespace

#define CHECK_VALUE(ours, theirs) CHECK(static_cast<long>(cuda::ours) == static_cast<long>(theirs))
#define CHECK_OFFSET(our_type, ours, their_type, theirs) \
  CHECK(offsetof(cuda::our_type, ours) == offsetof(their_type, theirs))

TEST_CASE("the errors are those of cuda.h") {
  CHECK_VALUE(Error::kSuccess, CUDA_SUCCESS);
  CHECK_VALUE(Error::kInvalidValue, CUDA_ERROR_INVALID_VALUE);
  CHECK_VALUE(Error::kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_VALUE(Error::kNotInitialized, CUDA_ERROR_NOT_INITIALIZED);
  CHECK_VALUE(Error::kDeinitialized, CUDA_ERROR_DEINITIALIZED);
  CHECK_VALUE(Error::kStubLibrary, CUDA_ERROR_STUB_LIBRARY);
  CHECK_VALUE(Error::kCallRequiresNewerDriver, CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER);
  CHECK_VALUE(Error::kDeviceUnavailable, CUDA_ERROR_DEVICE_UNAVAILABLE);
  CHECK_VALUE(Error::kNoDevice, CUDA_ERROR_NO_DEVICE);
  CHECK_VALUE(Error::kInvalidDevice, CUDA_ERROR_INVALID_DEVICE);
  CHECK_VALUE(Error::kDeviceNotLicensed, CUDA_ERROR_DEVICE_NOT_LICENSED);
  CHECK_VALUE(Error::kInvalidImage, CUDA_ERROR_INVALID_IMAGE);
  CHECK_VALUE(Error::kInvalidContext, CUDA_ERROR_INVALID_CONTEXT);
  CHECK_VALUE(Error::kMapFailed, CUDA_ERROR_MAP_FAILED);
  CHECK_VALUE(Error::kNoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU);
  CHECK_VALUE(Error::kEccUncorrectable, CUDA_ERROR_ECC_UNCORRECTABLE);
  CHECK_VALUE(Error::kPeerAccessUnsupported, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
  CHECK_VALUE(Error::kInvalidPtx, CUDA_ERROR_INVALID_PTX);
  CHECK_VALUE(Error::kNvlinkUncorrectable, CUDA_ERROR_NVLINK_UNCORRECTABLE);
  CHECK_VALUE(Error::kJitCompilerNotFound, CUDA_ERROR_JIT_COMPILER_NOT_FOUND);
  CHECK_VALUE(Error::kUnsupportedPtxVersion, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
  CHECK_VALUE(Error::kContained, CUDA_ERROR_CONTAINED);
  CHECK_VALUE(Error::kInvalidHandle, CUDA_ERROR_INVALID_HANDLE);
  CHECK_VALUE(Error::kNotFound, CUDA_ERROR_NOT_FOUND);
  CHECK_VALUE(Error::kNotReady, CUDA_ERROR_NOT_READY);
  CHECK_VALUE(Error::kIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK_VALUE(Error::kLaunchOutOfResources, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  CHECK_VALUE(Error::kLaunchTimeout, CUDA_ERROR_LAUNCH_TIMEOUT);
  CHECK_VALUE(Error::kPeerAccessAlreadyEnabled, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  CHECK_VALUE(Error::kPeerAccessNotEnabled, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
  CHECK_VALUE(Error::kContextIsDestroyed, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK_VALUE(Error::kAssert, CUDA_ERROR_ASSERT);
  CHECK_VALUE(Error::kHostMemoryAlreadyRegistered, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  CHECK_VALUE(Error::kHostMemoryNotRegistered, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  CHECK_VALUE(Error::kHardwareStackError, CUDA_ERROR_HARDWARE_STACK_ERROR);
  CHECK_VALUE(Error::kIllegalInstruction, CUDA_ERROR_ILLEGAL_INSTRUCTION);
  CHECK_VALUE(Error::kMisalignedAddress, CUDA_ERROR_MISALIGNED_ADDRESS);
  CHECK_VALUE(Error::kInvalidAddressSpace, CUDA_ERROR_INVALID_ADDRESS_SPACE);
  CHECK_VALUE(Error::kInvalidPc, CUDA_ERROR_INVALID_PC);
  CHECK_VALUE(Error::kLaunchFailed, CUDA_ERROR_LAUNCH_FAILED);
  CHECK_VALUE(Error::kNotPermitted, CUDA_ERROR_NOT_PERMITTED);
  CHECK_VALUE(Error::kNotSupported, CUDA_ERROR_NOT_SUPPORTED);
  CHECK_VALUE(Error::kSystemNotReady, CUDA_ERROR_SYSTEM_NOT_READY);
  CHECK_VALUE(Error::kSystemDriverMismatch, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
  CHECK_VALUE(Error::kCompatNotSupportedOnDevice, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE);
  CHECK_VALUE(Error::kMpsConnectionFailed, CUDA_ERROR_MPS_CONNECTION_FAILED);
  CHECK_VALUE(Error::kMpsRpcFailure, CUDA_ERROR_MPS_RPC_FAILURE);
  CHECK_VALUE(Error::kMpsServerNotReady, CUDA_ERROR_MPS_SERVER_NOT_READY);
  CHECK_VALUE(Error::kMpsMaxClientsReached, CUDA_ERROR_MPS_MAX_CLIENTS_REACHED);
  CHECK_VALUE(Error::kMpsMaxConnectionsReached, CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED);
  CHECK_VALUE(Error::kMpsClientTerminated, CUDA_ERROR_MPS_CLIENT_TERMINATED);
  CHECK_VALUE(Error::kExternalDevice, CUDA_ERROR_EXTERNAL_DEVICE);
  CHECK_VALUE(Error::kUnknown, CUDA_ERROR_UNKNOWN);
}

TEST_CASE("the attributes are those of cuda.h") {
  CHECK_VALUE(DeviceAttribute::kMultiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  CHECK_VALUE(DeviceAttribute::kPciBusId, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
  CHECK_VALUE(DeviceAttribute::kPciDeviceId, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID);
  CHECK_VALUE(DeviceAttribute::kAsyncEngineCount, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT);
  CHECK_VALUE(DeviceAttribute::kUnifiedAddressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
  CHECK_VALUE(DeviceAttribute::kPciDomainId, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID);
  CHECK_VALUE(DeviceAttribute::kComputeCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  CHECK_VALUE(DeviceAttribute::kComputeCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  CHECK_VALUE(DeviceAttribute::kCanUseHostPointerForRegisteredMemory,
              CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM);
  CHECK_VALUE(DeviceAttribute::kGpuDirectRdmaSupported, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED);
  CHECK_VALUE(DeviceAttribute::kCanUse64BitStreamMemOps, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS);
  CHECK_VALUE(PointerAttribute::kContext, CU_POINTER_ATTRIBUTE_CONTEXT);
  CHECK_VALUE(PointerAttribute::kMemoryType, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
  CHECK_VALUE(PointerAttribute::kBufferId, CU_POINTER_ATTRIBUTE_BUFFER_ID);
  CHECK_VALUE(PointerAttribute::kDeviceOrdinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
  CHECK_VALUE(PointerAttribute::kIsLegacyIpcCapable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);
  CHECK_VALUE(PointerAttribute::kRangeStart, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR);
  CHECK_VALUE(PointerAttribute::kRangeSize, CU_POINTER_ATTRIBUTE_RANGE_SIZE);
}

TEST_CASE("the flags and small enumerations are those of cuda.h") {
  CHECK_VALUE(MemoryType::kHost, CU_MEMORYTYPE_HOST);
  CHECK_VALUE(MemoryType::kDevice, CU_MEMORYTYPE_DEVICE);
  CHECK_VALUE(MemoryType::kArray, CU_MEMORYTYPE_ARRAY);
  CHECK_VALUE(MemoryType::kUnified, CU_MEMORYTYPE_UNIFIED);
  CHECK_VALUE(kHostRegisterPortable, CU_MEMHOSTREGISTER_PORTABLE);
  CHECK_VALUE(kHostRegisterDeviceMap, CU_MEMHOSTREGISTER_DEVICEMAP);
  CHECK_VALUE(kHostRegisterReadOnly, CU_MEMHOSTREGISTER_READ_ONLY);
  CHECK_VALUE(kEventBlockingSync, CU_EVENT_BLOCKING_SYNC);
  CHECK_VALUE(kEventDisableTiming, CU_EVENT_DISABLE_TIMING);
  CHECK_VALUE(kEventInterprocess, CU_EVENT_INTERPROCESS);
  CHECK_VALUE(kStreamNonBlocking, CU_STREAM_NON_BLOCKING);
  CHECK_VALUE(kIpcLazyEnablePeerAccess, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  CHECK_VALUE(kFindLegacyStream, CU_GET_PROC_ADDRESS_LEGACY_STREAM);
  CHECK_VALUE(MemLocation::Type::kInvalid, CU_MEM_LOCATION_TYPE_INVALID);
  CHECK_VALUE(MemLocation::Type::kDevice, CU_MEM_LOCATION_TYPE_DEVICE);
  CHECK_VALUE(MemLocation::Type::kHost, CU_MEM_LOCATION_TYPE_HOST);
  CHECK_VALUE(MemLocation::Type::kHostNuma, CU_MEM_LOCATION_TYPE_HOST_NUMA);
  CHECK_VALUE(SourceAccessOrder::kInvalid, CU_MEMCPY_SRC_ACCESS_ORDER_INVALID);
  CHECK_VALUE(SourceAccessOrder::kStream, CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
  CHECK_VALUE(SourceAccessOrder::kDuringApiCall, CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL);
  CHECK_VALUE(SourceAccessOrder::kAny, CU_MEMCPY_SRC_ACCESS_ORDER_ANY);
}

TEST_CASE("the structures lie in memory as those of cuda.h") {
  CHECK(sizeof(cuda::Uuid) == sizeof(CUuuid));
  CHECK(sizeof(cuda::IpcMemHandle) == sizeof(CUipcMemHandle));
  CHECK(sizeof(cuda::IpcEventHandle) == sizeof(CUipcEventHandle));
  CHECK(sizeof(cuda::DevicePtr) == sizeof(CUdeviceptr));
  CHECK(sizeof(cuda::MemLocation) == sizeof(CUmemLocation));
  CHECK_OFFSET(MemLocation, id, CUmemLocation, id);
  CHECK(sizeof(cuda::CopyAttributes) == sizeof(CUmemcpyAttributes));
  CHECK_OFFSET(CopyAttributes, source_access_order, CUmemcpyAttributes, srcAccessOrder);
  CHECK_OFFSET(CopyAttributes, source_hint, CUmemcpyAttributes, srcLocHint);
  CHECK_OFFSET(CopyAttributes, target_hint, CUmemcpyAttributes, dstLocHint);
  CHECK_OFFSET(CopyAttributes, flags, CUmemcpyAttributes, flags);
  CHECK(sizeof(cuda::Copy2D) == sizeof(CUDA_MEMCPY2D_v2));
  CHECK_OFFSET(Copy2D, source_x_bytes, CUDA_MEMCPY2D_v2, srcXInBytes);
  CHECK_OFFSET(Copy2D, source_y, CUDA_MEMCPY2D_v2, srcY);
  CHECK_OFFSET(Copy2D, source_type, CUDA_MEMCPY2D_v2, srcMemoryType);
  CHECK_OFFSET(Copy2D, source_host, CUDA_MEMCPY2D_v2, srcHost);
  CHECK_OFFSET(Copy2D, source_device, CUDA_MEMCPY2D_v2, srcDevice);
  CHECK_OFFSET(Copy2D, source_array, CUDA_MEMCPY2D_v2, srcArray);
  CHECK_OFFSET(Copy2D, source_pitch, CUDA_MEMCPY2D_v2, srcPitch);
  CHECK_OFFSET(Copy2D, target_x_bytes, CUDA_MEMCPY2D_v2, dstXInBytes);
  CHECK_OFFSET(Copy2D, target_y, CUDA_MEMCPY2D_v2, dstY);
  CHECK_OFFSET(Copy2D, target_type, CUDA_MEMCPY2D_v2, dstMemoryType);
  CHECK_OFFSET(Copy2D, target_host, CUDA_MEMCPY2D_v2, dstHost);
  CHECK_OFFSET(Copy2D, target_device, CUDA_MEMCPY2D_v2, dstDevice);
  CHECK_OFFSET(Copy2D, target_array, CUDA_MEMCPY2D_v2, dstArray);
  CHECK_OFFSET(Copy2D, target_pitch, CUDA_MEMCPY2D_v2, dstPitch);
  CHECK_OFFSET(Copy2D, width_bytes, CUDA_MEMCPY2D_v2, WidthInBytes);
  CHECK_OFFSET(Copy2D, height, CUDA_MEMCPY2D_v2, Height);
}

#else

TEST_CASE("the declarations are those of cuda.h: no toolkit of CUDA 13 or later is installed" * doctest::skip()) {}

#endif
