// Types of cuFile's binary interface (x86-64 and arm64), as far as the simulated library uses them. Constant data.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvtier::sim::cufile {

// CUfileError_t, returned by value.
struct Result {
  int error = 0;       // 0, or 5000 and more
  int cuda_error = 0;  // with kCudaDriverError
};
static_assert(sizeof(Result) == 8);

inline constexpr int kDriverNotInitialized = 5001;
inline constexpr int kCudaDriverError = 5011;
inline constexpr int kCudaPointerInvalid = 5012;
inline constexpr int kPointerRange = 5014;
inline constexpr int kInvalidFileType = 5018;
inline constexpr int kInvalidFileOpenFlag = 5019;
inline constexpr int kInvalidValue = 5022;
inline constexpr int kMemoryAlreadyRegistered = 5023;
inline constexpr int kMemoryNotRegistered = 5024;
inline constexpr int kDriverAlreadyOpen = 5026;
inline constexpr int kHandleNotRegistered = 5027;
inline constexpr int kHandleAlreadyRegistered = 5028;
inline constexpr int kNvfsSetupError = 5033;
inline constexpr int kInvalidContext = 5047;

// CUFileBoolConfigParameter_t
inline constexpr int kAllowCompatMode = 1;

using Handle = void*;

// CUfileDescr_t
struct Description {
  int type = 0;  // 1: a file descriptor
  union {
    int fd;
    void* handle;
  } file{};
  const void* file_system = nullptr;
};
static_assert(sizeof(Description) == 24 && offsetof(Description, file) == 8);

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
static_assert(sizeof(Properties) == 56 && offsetof(Properties, status_flags) == 24);

}  // namespace kvtier::sim::cufile
