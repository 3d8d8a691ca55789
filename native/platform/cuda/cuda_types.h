// Types and constants of CUDA's driver API, as far as kvtier uses them: our own declarations of a vendor's binary
// interface, so that a build needs no CUDA toolkit. A test holds them against cuda.h where a toolkit is installed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace kvtier::cuda {

// CUresult. A driver may answer numbers that are not named here.
enum class Error : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kDeinitialized = 4,
  kStubLibrary = 34,
  kCallRequiresNewerDriver = 36,
  kDeviceUnavailable = 46,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kDeviceNotLicensed = 102,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kMapFailed = 205,
  kNoBinaryForGpu = 209,
  kEccUncorrectable = 214,
  kPeerAccessUnsupported = 217,
  kInvalidPtx = 218,
  kNvlinkUncorrectable = 220,
  kJitCompilerNotFound = 221,
  kUnsupportedPtxVersion = 222,
  kContained = 226,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchOutOfResources = 701,
  kLaunchTimeout = 702,
  kPeerAccessAlreadyEnabled = 704,
  kPeerAccessNotEnabled = 705,
  kContextIsDestroyed = 709,
  kAssert = 710,
  kHostMemoryAlreadyRegistered = 712,
  kHostMemoryNotRegistered = 713,
  kHardwareStackError = 714,
  kIllegalInstruction = 715,
  kMisalignedAddress = 716,
  kInvalidAddressSpace = 717,
  kInvalidPc = 718,
  kLaunchFailed = 719,
  kNotPermitted = 800,
  kNotSupported = 801,
  kSystemNotReady = 802,
  kSystemDriverMismatch = 803,
  kCompatNotSupportedOnDevice = 804,
  kMpsConnectionFailed = 805,
  kMpsRpcFailure = 806,
  kMpsServerNotReady = 807,
  kMpsMaxClientsReached = 808,
  kMpsMaxConnectionsReached = 809,
  kMpsClientTerminated = 810,
  kExternalDevice = 911,
  kUnknown = 999,
};

using Device = int;                       // CUdevice
using DevicePtr = std::uint64_t;          // CUdeviceptr
using Context = struct OpaqueContext*;    // CUcontext
using Stream = struct OpaqueStream*;      // CUstream
using Event = struct OpaqueEvent*;        // CUevent
using Module = struct OpaqueModule*;      // CUmodule
using Function = struct OpaqueFunction*;  // CUfunction

struct Uuid {
  std::array<unsigned char, 16> bytes;
};
struct IpcMemHandle {
  std::array<unsigned char, 64> bytes;
};
struct IpcEventHandle {
  std::array<unsigned char, 64> bytes;
};

// CUdevice_attribute
enum class DeviceAttribute : int {
  kMaxPitch = 11,  // of two-dimensional copies, in bytes
  kMultiprocessorCount = 16,
  kPciBusId = 33,
  kPciDeviceId = 34,
  kAsyncEngineCount = 40,
  kUnifiedAddressing = 41,
  kPciDomainId = 50,
  kComputeCapabilityMajor = 75,
  kComputeCapabilityMinor = 76,
  kCanUseHostPointerForRegisteredMemory = 91,
  kGpuDirectRdmaSupported = 116,
  kCanUse64BitStreamMemOps = 122,
};

// CUpointer_attribute
enum class PointerAttribute : int {
  kContext = 1,
  kMemoryType = 2,
  kBufferId = 7,
  kDeviceOrdinal = 9,
  kIsLegacyIpcCapable = 10,
  kRangeStart = 11,
  kRangeSize = 12,
};

// CUmemorytype
enum class MemoryType : unsigned { kHost = 1, kDevice = 2, kArray = 3, kUnified = 4 };

inline constexpr unsigned kHostRegisterPortable = 1;
inline constexpr unsigned kHostRegisterDeviceMap = 2;
inline constexpr unsigned kHostRegisterReadOnly = 8;
inline constexpr unsigned kEventBlockingSync = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kEventInterprocess = 4;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kIpcLazyEnablePeerAccess = 1;

// The stream that programs use without naming one, with its implicit ordering; never legal for a batch copy.
inline constexpr Stream kLegacyStream = nullptr;

// CUmemLocation
struct MemLocation {
  enum class Type : int { kInvalid = 0, kDevice = 1, kHost = 2, kHostNuma = 3 };
  Type type = Type::kInvalid;
  int id = 0;
};

// CUmemcpySrcAccessOrder: when the source of a batch copy may be read.
enum class SourceAccessOrder : int {
  kInvalid = 0,
  kStream = 1,         // in stream order
  kDuringApiCall = 2,  // before the call returns
  kAny = 3,  // at any time after the call began: legal only for host memory that is complete and stays as it is
};

// CUmemcpyAttributes
struct CopyAttributes {
  SourceAccessOrder source_access_order = SourceAccessOrder::kInvalid;
  MemLocation source_hint;
  MemLocation target_hint;
  unsigned flags = 0;  // 1: prefer to overlap with compute
};

// CUDA_MEMCPY2D
struct Copy2D {
  std::size_t source_x_bytes = 0;
  std::size_t source_y = 0;
  MemoryType source_type = MemoryType::kHost;
  const void* source_host = nullptr;
  DevicePtr source_device = 0;
  void* source_array = nullptr;
  std::size_t source_pitch = 0;
  std::size_t target_x_bytes = 0;
  std::size_t target_y = 0;
  MemoryType target_type = MemoryType::kHost;
  void* target_host = nullptr;
  DevicePtr target_device = 0;
  void* target_array = nullptr;
  std::size_t target_pitch = 0;
  std::size_t width_bytes = 0;
  std::size_t height = 0;
};

static_assert(sizeof(Uuid) == 16 && sizeof(IpcMemHandle) == 64 && sizeof(IpcEventHandle) == 64);
static_assert(sizeof(CopyAttributes) == 24 && sizeof(Copy2D) == 128 && sizeof(MemLocation) == 8);

}  // namespace kvtier::cuda
