// How the binding's own code fails: a Fault, which the entry of every call turns into the error that TypeScript made
// the binding throw. Beside it only a Thrown may leave a call, and nothing at all a callback of an engine thread. The
// JavaScript thread.
#pragma once

#include <string>
#include <utility>

#include "binding/napi_setup.h"
#include "core/status.h"

namespace kvtier {

struct Fault {
  Code code;
  std::string message;
};

// What JavaScript threw while a call read its arguments; it leaves the call as it is.
struct Thrown {
  Napi::Error error;
};

[[noreturn]] inline void fail(Code code, std::string message) {
  throw Fault{code, std::move(message)};
}

inline void check(const Status& status) {
  if (!status.is_ok()) fail(status.code(), status.message());
}

template <typename T>
[[nodiscard]] T take_value(Result<T>&& result) {
  check(result.status());
  return std::move(result).value();
}

}  // namespace kvtier
