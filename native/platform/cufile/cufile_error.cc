#include "platform/cufile/cufile_error.h"

#include "platform/cuda/cuda_error.h"

namespace kvtier::cufile {

Code code_of(const Outcome& outcome) noexcept {
  switch (outcome.error) {
    case Error::kSuccess:
      return Code::kOk;
    case Error::kCudaDriverError:
      return outcome.cuda_error == cuda::Error::kSuccess ? Code::kIo : cuda::code_of(outcome.cuda_error);
    case Error::kInvalidMappingSize:
    case Error::kGpuMemoryPinningFailed:
    case Error::kNoMemoryError:
      return Code::kOutOfMemory;
    case Error::kDriverNotInitialized:
    case Error::kDriverVersionMismatch:
    case Error::kDriverVersionReadError:
    case Error::kPlatformNotSupported:
    case Error::kIoNotSupported:
    case Error::kDeviceNotSupported:
    case Error::kCudaMemoryTypeInvalid:
    case Error::kInvalidFileType:
    case Error::kInvalidFileOpenFlag:
    case Error::kDioNotSet:
    case Error::kPermissionDenied:
    case Error::kDeviceNotFound:
    case Error::kNvfsSetupError:
    case Error::kIoDisabled:
    case Error::kAsyncNotSupported:
    case Error::kBatchNoCompatError:
      return Code::kUnsupported;
    case Error::kDriverInvalidProps:
    case Error::kDriverUnsupportedLimit:
    case Error::kDriverClosing:
    case Error::kNvfsDriverError:
    case Error::kCudaPointerInvalid:
    case Error::kCudaPointerRangeError:
    case Error::kCudaContextMismatch:
    case Error::kInvalidMappingRange:
    case Error::kInvalidValue:
    case Error::kMemoryAlreadyRegistered:
    case Error::kMemoryNotRegistered:
    case Error::kDriverAlreadyOpen:
    case Error::kHandleNotRegistered:
    case Error::kHandleAlreadyRegistered:
    case Error::kInternalError:
    case Error::kGetNewFdFailed:
    case Error::kBatchSubmitFailed:
    case Error::kBatchFull:
    case Error::kInternalBatchSetupError:
    case Error::kInternalBatchSubmitError:
    case Error::kInternalBatchGetStatusError:
    case Error::kInternalBatchCancelError:
    case Error::kIoError:
    case Error::kInternalBufRegisterError:
    case Error::kHashOprError:
    case Error::kInvalidContextError:
    case Error::kNvfsInternalDriverError:
      return Code::kIo;
  }
  return Code::kIo;  // a number that cufile_types.h does not name
}

std::string describe(const cuda::Functions& functions, const Outcome& outcome) {
  std::string text;
  switch (outcome.error) {
    case Error::kSuccess:
      return "success";
#define KVTIER_CUFILE_ERROR_CASE(name, number, vendor, meaning) \
  case Error::name:                                             \
    text = "CU_FILE_" #vendor " (" #number "): " meaning;       \
    break;
      KVTIER_CUFILE_ERRORS(KVTIER_CUFILE_ERROR_CASE)
#undef KVTIER_CUFILE_ERROR_CASE
  }
  if (text.empty()) text = "cuFile error " + std::to_string(static_cast<int>(outcome.error));
  if (outcome.error == Error::kCudaDriverError && outcome.cuda_error != cuda::Error::kSuccess) {
    text += ": " + cuda::describe(functions, outcome.cuda_error);
  }
  return text;
}

Status to_status(const cuda::Functions& functions, const Outcome& outcome, std::string_view what) {
  if (outcome.error == Error::kSuccess) return Status::ok();
  return Status(code_of(outcome), std::string(what) + ": " + describe(functions, outcome));
}

Status transfer_failure(const cuda::Functions& functions, ssize_t answer, int errno_value, std::string_view what) {
  if (answer < -kErrorBase && answer > -2 * kErrorBase) {
    return to_status(functions, {.error = static_cast<Error>(-answer)}, what);
  }
  if (answer != -1) {
    return Status(Code::kIo, std::string(what) + ": cuFile answered " + std::to_string(answer));
  }
  Status status = Status::from_errno(errno_value, std::string(what));
  if (status.code() == Code::kNoSpace || status.code() == Code::kNotWritable) return status;
  return Status(Code::kIo, status.message());
}

}  // namespace kvtier::cufile
