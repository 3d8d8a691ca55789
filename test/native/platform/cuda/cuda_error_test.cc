#include "platform/cuda/cuda_error.h"

#include <doctest/doctest.h>
#include <string>

using kvtier::Code;
using kvtier::cuda::Error;

namespace {

kvtier::cuda::Functions functions_with_texts() {
  kvtier::cuda::Functions functions;
  functions.get_error_name = [](Error error, const char** name) {
    *name = error == Error::kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : nullptr;
    return error == Error::kOutOfMemory ? Error::kSuccess : Error::kInvalidValue;
  };
  functions.get_error_string = [](Error, const char** text) {
    *text = "out of memory";
    return Error::kSuccess;
  };
  return functions;
}

}  // namespace

TEST_CASE("an error has the driver's name and text, or its number where the driver has none") {
  const kvtier::cuda::Functions functions = functions_with_texts();
  CHECK(kvtier::cuda::describe(functions, Error::kOutOfMemory) == "CUDA_ERROR_OUT_OF_MEMORY (out of memory)");
  CHECK(kvtier::cuda::describe(functions, static_cast<Error>(4711)) == "CUDA error 4711");
  CHECK(kvtier::cuda::describe(kvtier::cuda::Functions(), Error::kOutOfMemory) == "CUDA error 2");
}

TEST_CASE("a status says what was asked and what the driver answered, and success is ok") {
  const kvtier::cuda::Functions functions = functions_with_texts();
  const kvtier::Status failed = kvtier::cuda::to_status(functions, Error::kOutOfMemory, "cuMemAlloc of 4096 bytes");
  CHECK(failed.code() == Code::kOutOfMemory);
  CHECK(failed.message() == "cuMemAlloc of 4096 bytes: CUDA_ERROR_OUT_OF_MEMORY (out of memory)");
  CHECK(kvtier::cuda::to_status(functions, Error::kSuccess, "cuMemAlloc").is_ok());
}

TEST_CASE("failures after which a device is lost are told from those that leave it usable") {
  for (const int code : {4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 810, 911}) {
    CAPTURE(code);
    CHECK(kvtier::cuda::is_sticky(static_cast<Error>(code)));
    CHECK(kvtier::cuda::code_of(static_cast<Error>(code)) == Code::kDeviceLost);
  }
  for (const int code : {0, 1, 2, 100, 201, 400, 600, 701, 704, 712, 800, 801, 999, 4711}) {
    CAPTURE(code);
    CHECK_FALSE(kvtier::cuda::is_sticky(static_cast<Error>(code)));
  }
}

TEST_CASE("an error's code says whether memory, the machine or a call is what failed") {
  CHECK(kvtier::cuda::code_of(Error::kSuccess) == Code::kOk);
  CHECK(kvtier::cuda::code_of(Error::kOutOfMemory) == Code::kOutOfMemory);
  CHECK(kvtier::cuda::code_of(Error::kNotSupported) == Code::kUnsupported);
  CHECK(kvtier::cuda::code_of(Error::kNoBinaryForGpu) == Code::kUnsupported);
  CHECK(kvtier::cuda::code_of(Error::kInvalidValue) == Code::kIo);
  CHECK(kvtier::cuda::code_of(static_cast<Error>(4711)) == Code::kIo);
}
