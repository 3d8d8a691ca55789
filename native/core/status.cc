#include "core/status.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kvtier {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "kvtier: broken promise: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

namespace {

Code code_of_errno(int errno_value) noexcept {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Code::kNoSpace;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::kNotWritable;
    case ENOTDIR:
      return Code::kNotADirectory;
    case ENOMEM:
      return Code::kOutOfMemory;
    case EWOULDBLOCK:
      return Code::kLocked;
    case EINVAL:
      return Code::kInvalidValue;
    default:
      return Code::kIo;
  }
}

// strerror_r has two forms: GNU's returns the text, which need not be in the buffer; POSIX's (musl, macOS) returns an
// error number and fills the buffer. The overload that fits the platform is chosen by the type of the result.
[[maybe_unused]] const char* text_of(const char* text, const char* /*buffer*/) noexcept {
  return text;
}
[[maybe_unused]] const char* text_of(int result, const char* buffer) noexcept {
  return result == 0 ? buffer : "unknown error";
}

}  // namespace

Status Status::from_errno(int errno_value, const std::string& what) {
  char buffer[128] = "";
  const char* text = text_of(::strerror_r(errno_value, buffer, sizeof buffer), buffer);
  return Status(code_of_errno(errno_value), what + ": " + text);
}

}  // namespace kvtier
