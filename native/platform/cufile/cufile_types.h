// Types and constants of cuFile (GPUDirect Storage), as far as kvtier uses them: our own declarations of a vendor's
// binary interface, so that a build needs no toolkit. A test holds them against cufile.h where one is installed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "platform/cuda/cuda_types.h"

namespace kvtier::cufile {

// CUfileOpError. Columns: name, number, the vendor's name without CU_FILE_, what it means.
#define KVTIER_CUFILE_ERRORS(X)                                                                                  \
  X(kDriverNotInitialized, 5001, DRIVER_NOT_INITIALIZED, "the kernel module nvidia-fs is not loaded")            \
  X(kDriverInvalidProps, 5002, DRIVER_INVALID_PROPS, "a property is not valid")                                  \
  X(kDriverUnsupportedLimit, 5003, DRIVER_UNSUPPORTED_LIMIT, "a property lies outside its range")                \
  X(kDriverVersionMismatch, 5004, DRIVER_VERSION_MISMATCH, "nvidia-fs has another version than the library")     \
  X(kDriverVersionReadError, 5005, DRIVER_VERSION_READ_ERROR, "the version of nvidia-fs cannot be read")         \
  X(kDriverClosing, 5006, DRIVER_CLOSING, "cuFile is being closed")                                              \
  X(kPlatformNotSupported, 5007, PLATFORM_NOT_SUPPORTED, "not available on this platform")                       \
  X(kIoNotSupported, 5008, IO_NOT_SUPPORTED, "not available for this file")                                      \
  X(kDeviceNotSupported, 5009, DEVICE_NOT_SUPPORTED, "not available for this GPU")                               \
  X(kNvfsDriverError, 5010, NVFS_DRIVER_ERROR, "a call of nvidia-fs failed")                                     \
  X(kCudaDriverError, 5011, CUDA_DRIVER_ERROR, "a call of CUDA's driver failed")                                 \
  X(kCudaPointerInvalid, 5012, CUDA_POINTER_INVALID, "the address is not device memory")                         \
  X(kCudaMemoryTypeInvalid, 5013, CUDA_MEMORY_TYPE_INVALID, "the memory is of a kind that it does not take")     \
  X(kCudaPointerRangeError, 5014, CUDA_POINTER_RANGE_ERROR, "the range leaves its allocation")                   \
  X(kCudaContextMismatch, 5015, CUDA_CONTEXT_MISMATCH, "the memory belongs to another context")                  \
  X(kInvalidMappingSize, 5016, INVALID_MAPPING_SIZE, "more memory than may be pinned")                           \
  X(kInvalidMappingRange, 5017, INVALID_MAPPING_RANGE, "the range leaves what is mapped")                        \
  X(kInvalidFileType, 5018, INVALID_FILE_TYPE, "not a kind of file that it takes")                               \
  X(kInvalidFileOpenFlag, 5019, INVALID_FILE_OPEN_FLAG, "the file is open with a flag that it does not take")    \
  X(kDioNotSet, 5020, DIO_NOT_SET, "the file is not open for direct I/O")                                        \
  X(kInvalidValue, 5022, INVALID_VALUE, "an argument is not valid")                                              \
  X(kMemoryAlreadyRegistered, 5023, MEMORY_ALREADY_REGISTERED, "the memory is registered already")               \
  X(kMemoryNotRegistered, 5024, MEMORY_NOT_REGISTERED, "the memory is not registered")                           \
  X(kPermissionDenied, 5025, PERMISSION_DENIED, "no right to nvidia-fs or to the file")                          \
  X(kDriverAlreadyOpen, 5026, DRIVER_ALREADY_OPEN, "cuFile is open already")                                     \
  X(kHandleNotRegistered, 5027, HANDLE_NOT_REGISTERED, "the file is not registered, or its device is not known") \
  X(kHandleAlreadyRegistered, 5028, HANDLE_ALREADY_REGISTERED, "the file is registered already")                 \
  X(kDeviceNotFound, 5029, DEVICE_NOT_FOUND, "no such GPU")                                                      \
  X(kInternalError, 5030, INTERNAL_ERROR, "an error inside cuFile")                                              \
  X(kGetNewFdFailed, 5031, GETNEWFD_FAILED, "no other descriptor of the file can be had")                        \
  X(kNvfsSetupError, 5033, NVFS_SETUP_ERROR, "nvidia-fs could not be set up")                                    \
  X(kIoDisabled, 5034, IO_DISABLED, "switched off for this file by cuFile's configuration")                      \
  X(kBatchSubmitFailed, 5035, BATCH_SUBMIT_FAILED, "a batch could not be submitted")                             \
  X(kGpuMemoryPinningFailed, 5036, GPU_MEMORY_PINNING_FAILED, "the device memory cannot be pinned")              \
  X(kBatchFull, 5037, BATCH_FULL, "the queue of batches is full")                                                \
  X(kAsyncNotSupported, 5038, ASYNC_NOT_SUPPORTED, "no transfers in streams here")                               \
  X(kInternalBatchSetupError, 5039, INTERNAL_BATCH_SETUP_ERROR, "an error inside cuFile, of a batch")            \
  X(kInternalBatchSubmitError, 5040, INTERNAL_BATCH_SUBMIT_ERROR, "an error inside cuFile, of a batch")          \
  X(kInternalBatchGetStatusError, 5041, INTERNAL_BATCH_GETSTATUS_ERROR, "an error inside cuFile, of a batch")    \
  X(kInternalBatchCancelError, 5042, INTERNAL_BATCH_CANCEL_ERROR, "an error inside cuFile, of a batch")          \
  X(kNoMemoryError, 5043, NOMEM_ERROR, "cuFile has no memory left")                                              \
  X(kIoError, 5044, IO_ERROR, "the transfer failed")                                                             \
  X(kInternalBufRegisterError, 5045, INTERNAL_BUF_REGISTER_ERROR, "an error inside cuFile, registering memory")  \
  X(kHashOprError, 5046, HASH_OPR_ERROR, "an error inside cuFile, in its tables")                                \
  X(kInvalidContextError, 5047, INVALID_CONTEXT_ERROR, "the thread has no CUDA context")                         \
  X(kNvfsInternalDriverError, 5048, NVFS_INTERNAL_DRIVER_ERROR, "an error inside nvidia-fs")                     \
  X(kBatchNoCompatError, 5049, BATCH_NOCOMPAT_ERROR, "not possible without the compatibility mode")

// A library may answer numbers that are not named here.
enum class Error : int {
  kSuccess = 0,
#define KVTIER_CUFILE_ERROR_NAME(name, number, vendor, text) name = number,
  KVTIER_CUFILE_ERRORS(KVTIER_CUFILE_ERROR_NAME)
#undef KVTIER_CUFILE_ERROR_NAME
};
// Errors are above it.
inline constexpr int kErrorBase = 5000;

// CUfileError_t, which functions return by value.
struct Outcome {
  Error error = Error::kSuccess;
  cuda::Error cuda_error = cuda::Error::kSuccess;  // with Error::kCudaDriverError
};

using Handle = void*;  // CUfileHandle_t

// CUfileFileHandleType
enum class HandleType : int { kFileDescriptor = 1 };

// CUfileDescr_t
struct Description {
  HandleType type = HandleType::kFileDescriptor;
  union {
    int fd;
    void* pointer;
  } file{};
  const void* file_system = nullptr;  // operations of a file system in user space
};

// CUfileDrvProps_t
struct Properties {
  unsigned nvfs_major = 0;
  unsigned nvfs_minor = 0;
  std::size_t poll_threshold_kb = 0;
  std::size_t direct_io_kb_max = 0;
  unsigned status_flags = 0;
  unsigned control_flags = 0;
  unsigned feature_flags = 0;
  unsigned device_cache_kb_max = 0;
  unsigned buffer_cache_kb = 0;
  unsigned pinned_memory_kb_max = 0;
  unsigned batch_io_max = 0;
  unsigned batch_io_timeout_ms = 0;
};

// A bit of Properties::control_flags: cuFile may move bytes through host memory by itself.
inline constexpr unsigned kControlAllowCompatMode = 1U << 1U;

// CUFileBoolConfigParameter_t
enum class BoolParameter : int { kAllowCompatMode = 1, kForceCompatMode = 2 };

static_assert(sizeof(Outcome) == 8 && sizeof(Description) == 24 && sizeof(Properties) == 56);
static_assert(offsetof(Description, file) == 8 && offsetof(Description, file_system) == 16);
static_assert(offsetof(Properties, status_flags) == 24 && offsetof(Properties, batch_io_timeout_ms) == 52);

}  // namespace kvtier::cufile
