#include "platform/cuda/cuda_error.h"

namespace kvtier::cuda {

bool is_sticky(Error error) noexcept {
  return code_of(error) == Code::kDeviceLost;
}

Code code_of(Error error) noexcept {
  switch (error) {
    case Error::kSuccess:
      return Code::kOk;
    case Error::kOutOfMemory:
      return Code::kOutOfMemory;
    case Error::kDeinitialized:
    case Error::kEccUncorrectable:
    case Error::kNvlinkUncorrectable:
    case Error::kContained:
    case Error::kIllegalAddress:
    case Error::kLaunchTimeout:
    case Error::kContextIsDestroyed:
    case Error::kAssert:
    case Error::kHardwareStackError:
    case Error::kIllegalInstruction:
    case Error::kMisalignedAddress:
    case Error::kInvalidAddressSpace:
    case Error::kInvalidPc:
    case Error::kLaunchFailed:
    case Error::kMpsClientTerminated:
    case Error::kExternalDevice:
      return Code::kDeviceLost;
    case Error::kStubLibrary:
    case Error::kCallRequiresNewerDriver:
    case Error::kDeviceUnavailable:
    case Error::kNoDevice:
    case Error::kInvalidDevice:
    case Error::kDeviceNotLicensed:
    case Error::kInvalidImage:
    case Error::kNoBinaryForGpu:
    case Error::kPeerAccessUnsupported:
    case Error::kInvalidPtx:
    case Error::kJitCompilerNotFound:
    case Error::kUnsupportedPtxVersion:
    case Error::kNotPermitted:
    case Error::kNotSupported:
    case Error::kSystemNotReady:
    case Error::kSystemDriverMismatch:
    case Error::kCompatNotSupportedOnDevice:
    case Error::kMpsConnectionFailed:
    case Error::kMpsRpcFailure:
    case Error::kMpsServerNotReady:
    case Error::kMpsMaxClientsReached:
    case Error::kMpsMaxConnectionsReached:
      return Code::kUnsupported;
    case Error::kInvalidValue:
    case Error::kNotInitialized:
    case Error::kInvalidContext:
    case Error::kMapFailed:
    case Error::kInvalidHandle:
    case Error::kNotFound:
    case Error::kNotReady:
    case Error::kLaunchOutOfResources:
    case Error::kPeerAccessAlreadyEnabled:
    case Error::kPeerAccessNotEnabled:
    case Error::kHostMemoryAlreadyRegistered:
    case Error::kHostMemoryNotRegistered:
    case Error::kUnknown:
      return Code::kIo;
  }
  return Code::kIo;  // a number that cuda_types.h does not name
}

std::string describe(const Functions& functions, Error error) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (functions.get_error_name == nullptr || functions.get_error_name(error, &name) != Error::kSuccess ||
      name == nullptr) {
    return "CUDA error " + std::to_string(static_cast<int>(error));
  }
  std::string description = name;
  if (functions.get_error_string != nullptr && functions.get_error_string(error, &text) == Error::kSuccess &&
      text != nullptr) {
    description.append(" (").append(text).append(")");
  }
  return description;
}

Status to_status(const Functions& functions, Error error, std::string_view what) {
  if (error == Error::kSuccess) return Status::ok();
  return Status(code_of(error), std::string(what) + ": " + describe(functions, error));
}

}  // namespace kvtier::cuda
