#include "platform/cufile/cufile_error.h"

#include <doctest/doctest.h>
#include <cerrno>
#include <set>
#include <string>

using kvtier::Code;
using kvtier::Status;
using kvtier::cufile::Error;
using kvtier::cufile::Outcome;

namespace {

// A driver that names its errors.
kvtier::cuda::Functions named() {
  kvtier::cuda::Functions functions;
  functions.get_error_name = [](kvtier::cuda::Error, const char** name) {
    *name = "CUDA_ERROR_SOMETHING";
    return kvtier::cuda::Error::kSuccess;
  };
  functions.get_error_string = [](kvtier::cuda::Error, const char** text) {
    *text = "something went wrong";
    return kvtier::cuda::Error::kSuccess;
  };
  return functions;
}

}  // namespace

TEST_CASE("each error of cuFile has its name, its number and a text, and a code that is a failure") {
  std::set<std::string> texts;
#define CHECK_ERROR(name, number, vendor, text)                                     \
  CHECK(texts.insert(kvtier::cufile::describe({}, {.error = Error::name})).second); \
  CHECK(texts.contains("CU_FILE_" #vendor " (" #number "): " text));                \
  CHECK(kvtier::cufile::code_of({.error = Error::name}) != Code::kOk);
  KVTIER_CUFILE_ERRORS(CHECK_ERROR)
#undef CHECK_ERROR
  CHECK(kvtier::cufile::describe({}, {.error = static_cast<Error>(5999)}) == "cuFile error 5999");
  CHECK(kvtier::cufile::code_of({.error = static_cast<Error>(5999)}) == Code::kIo);
}

TEST_CASE("success is no failure") {
  CHECK(kvtier::cufile::to_status({}, {}, "cuFileDriverOpen").is_ok());
  CHECK(kvtier::cufile::code_of({}) == Code::kOk);
}

TEST_CASE("a failure of the CUDA driver is named beside cuFile's, and gives the code") {
  const Outcome lost{.error = Error::kCudaDriverError, .cuda_error = kvtier::cuda::Error::kIllegalAddress};
  const Status status = kvtier::cufile::to_status(named(), lost, "cuFileBufRegister");
  CHECK(status.code() == Code::kDeviceLost);
  CHECK(status.message() ==
        "cuFileBufRegister: CU_FILE_CUDA_DRIVER_ERROR (5011): a call of CUDA's driver failed: CUDA_ERROR_SOMETHING "
        "(something went wrong)");
  // Not every library fills it.
  CHECK(kvtier::cufile::code_of({.error = Error::kCudaDriverError}) == Code::kIo);
  // Beside another error it means nothing.
  CHECK(kvtier::cufile::code_of({.error = Error::kIoError, .cuda_error = kvtier::cuda::Error::kIllegalAddress}) ==
        Code::kIo);
}

TEST_CASE("memory that cannot be pinned is out of memory, and what a machine or file lacks is unsupported") {
  CHECK(kvtier::cufile::code_of({.error = Error::kGpuMemoryPinningFailed}) == Code::kOutOfMemory);
  CHECK(kvtier::cufile::code_of({.error = Error::kIoNotSupported}) == Code::kUnsupported);
  CHECK(kvtier::cufile::code_of({.error = Error::kInvalidFileOpenFlag}) == Code::kUnsupported);
}

TEST_CASE("a transfer's answer is an error of the system, of cuFile, or a number that says itself") {
  const auto failure = [](ssize_t answer, int error) {
    return kvtier::cufile::transfer_failure(named(), answer, error, "cuFileWrite of 1 byte");
  };
  CHECK(failure(-1, EIO).code() == Code::kIo);
  CHECK(failure(-1, ENOSPC).code() == Code::kNoSpace);
  CHECK(failure(-1, EROFS).code() == Code::kNotWritable);
  CHECK(failure(-1, ENOMEM).code() == Code::kIo);
  CHECK(failure(-1, EIO).message().find("cuFileWrite of 1 byte") == 0);
  CHECK(failure(-5008, EIO).code() == Code::kUnsupported);
  CHECK(failure(-5008, 0).message().find("CU_FILE_IO_NOT_SUPPORTED (5008)") != std::string::npos);
  CHECK(failure(-22, 0).code() == Code::kIo);
  CHECK(failure(-22, 0).message().find("-22") != std::string::npos);
}
