// How a program finds the driver's functions (cuGetProcAddress), and the names of its errors. Any thread.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "support/sim-cuda/driver_state.h"

namespace kvtier::sim {
namespace {

using cuda::Error;

#define KVTIER_SIM_ADDRESS(member, base, symbol, version, ...) reinterpret_cast<void*>(&calls::member),
const std::array<void*, kFunctionCount - 1> kAddresses = {KVTIER_CUDA_REQUIRED(KVTIER_SIM_ADDRESS)
                                                              KVTIER_CUDA_OPTIONAL(KVTIER_SIM_ADDRESS)};
#undef KVTIER_SIM_ADDRESS

// CUdriverProcAddressQueryResult
enum class SymbolStatus : int { kSuccess = 0, kNotFound = 1, kVersionNotSufficient = 2 };

struct FoundSymbol {
  void* address = nullptr;
  SymbolStatus status = SymbolStatus::kNotFound;
};

// The newest form of the function that is not newer than the version asked for.
FoundSymbol find_symbol(const Settings& settings, std::string_view base, int version) {
  FoundSymbol found;
  int best = 0;
  for (std::size_t index = 0; index < kAddresses.size(); ++index) {
    const FunctionInfo& function = kFunctions[index];
    if (function.base != base || function.version > settings.version) continue;
    if (function.version > version) {
      if (found.address == nullptr) found.status = SymbolStatus::kVersionNotSufficient;
    } else if (function.version > best) {
      best = function.version;
      found = FoundSymbol{kAddresses[index], SymbolStatus::kSuccess};
    }
  }
  return found;
}

Error get_proc_address(const char* symbol, void** address, int version, std::uint64_t flags, SymbolStatus& status) {
  Call call(Function::get_proc_address, Needs::kNothing);
  if (!call) return call.error();
  const Settings& settings = call.state().settings;
  // Per-thread default streams (2) are not modelled.
  if (symbol == nullptr || address == nullptr || flags > 1) return Error::kInvalidValue;
  *address = nullptr;
  // Its symbol cannot be taken away for a driver that is too old to have it.
  constexpr int kFirstVersion = 11030;
  if (settings.version < kFirstVersion) return Error::kNotFound;
  if (version > settings.version) return Error::kInvalidValue;
  const FoundSymbol found = find_symbol(settings, symbol, version);
  *address = found.address;
  status = found.status;
  return Error::kSuccess;
}

struct ErrorText {
  Error error;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
    {Error::kSuccess, "CUDA_SUCCESS", "no error"},
    {Error::kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {Error::kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {Error::kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {Error::kDeinitialized, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {Error::kStubLibrary, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {Error::kCallRequiresNewerDriver, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER",
     "API call is not supported in the installed CUDA driver"},
    {Error::kDeviceUnavailable, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {Error::kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {Error::kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {Error::kInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {Error::kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {Error::kMapFailed, "CUDA_ERROR_MAP_FAILED", "mapping of buffer object failed"},
    {Error::kNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {Error::kEccUncorrectable, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {Error::kPeerAccessUnsupported, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED",
     "peer access is not supported between these two devices"},
    {Error::kInvalidPtx, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {Error::kUnsupportedPtxVersion, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {Error::kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {Error::kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {Error::kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {Error::kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {Error::kLaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {Error::kLaunchTimeout, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {Error::kPeerAccessAlreadyEnabled, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
    {Error::kPeerAccessNotEnabled, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled"},
    {Error::kContextIsDestroyed, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {Error::kHostMemoryAlreadyRegistered, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {Error::kHostMemoryNotRegistered, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {Error::kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {Error::kNotPermitted, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {Error::kNotSupported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {Error::kSystemNotReady, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {Error::kSystemDriverMismatch, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {Error::kCompatNotSupportedOnDevice, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
     "forward compatibility was attempted on non supported HW"},
    {Error::kUnknown, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const ErrorText* find_error(Error error) {
  const auto* found = std::find_if(std::begin(kErrors), std::end(kErrors),
                                   [error](const ErrorText& one) { return one.error == error; });
  return found == std::end(kErrors) ? nullptr : found;
}

}  // namespace

namespace calls {

Error get_error_name(Error error, const char** name) {
  Call call(Function::get_error_name, Needs::kNothing);
  if (!call) return call.error();
  const ErrorText* found = find_error(error);
  if (name == nullptr) return Error::kInvalidValue;
  *name = found == nullptr ? nullptr : found->name;
  return found == nullptr ? Error::kInvalidValue : Error::kSuccess;
}

Error get_error_string(Error error, const char** text) {
  Call call(Function::get_error_string, Needs::kNothing);
  if (!call) return call.error();
  const ErrorText* found = find_error(error);
  if (text == nullptr) return Error::kInvalidValue;
  *text = found == nullptr ? nullptr : found->text;
  return found == nullptr ? Error::kInvalidValue : Error::kSuccess;
}

}  // namespace calls

// The form of CUDA 12.0 and later: what is not there is a success with no address and a status that says why.
extern "C" KVTIER_SIM_EXPORT Error cuGetProcAddress_v2(const char* symbol, void** address, int version,
                                                       std::uint64_t flags, int* status) {
  SymbolStatus found = SymbolStatus::kNotFound;
  const Error error = get_proc_address(symbol, address, version, flags, found);
  if (status != nullptr) *status = static_cast<int>(found);
  return error;
}

// The form of CUDA 11.3.
extern "C" KVTIER_SIM_EXPORT Error cuGetProcAddress(const char* symbol, void** address, int version,
                                                    std::uint64_t flags) {
  SymbolStatus found = SymbolStatus::kNotFound;
  const Error error = get_proc_address(symbol, address, version, flags, found);
  if (error != Error::kSuccess) return error;
  return found == SymbolStatus::kSuccess ? Error::kSuccess : Error::kNotFound;
}

}  // namespace kvtier::sim
