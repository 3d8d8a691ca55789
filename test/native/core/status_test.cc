#include "core/status.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

using kvtier::Code;
using kvtier::Result;
using kvtier::Status;

TEST_CASE("a status is OK until it is given a code") {
  CHECK(Status().is_ok());
  CHECK(static_cast<bool>(Status::ok()));
  const Status failed(Code::kIo, "the disk said no");
  CHECK_FALSE(failed.is_ok());
  CHECK(failed.code() == Code::kIo);
  CHECK(failed.message() == "the disk said no");
}

TEST_CASE("an errno chooses the code, and the message names the call and the system's words") {
  CHECK(Status::from_errno(ENOSPC, "pwrite").code() == Code::kNoSpace);
  CHECK(Status::from_errno(EDQUOT, "pwrite").code() == Code::kNoSpace);
  CHECK(Status::from_errno(EACCES, "open").code() == Code::kNotWritable);
  CHECK(Status::from_errno(EROFS, "open").code() == Code::kNotWritable);
  CHECK(Status::from_errno(ENOTDIR, "open").code() == Code::kNotADirectory);
  CHECK(Status::from_errno(ENOMEM, "mmap").code() == Code::kOutOfMemory);
  CHECK(Status::from_errno(EWOULDBLOCK, "flock").code() == Code::kLocked);
  CHECK(Status::from_errno(EINVAL, "pread").code() == Code::kInvalidValue);
  CHECK(Status::from_errno(EIO, "pread").code() == Code::kIo);
  CHECK(Status::from_errno(ENOSPC, "pwrite").message() == "pwrite: No space left on device");
}

TEST_CASE("an errno that the system does not know still makes a message") {
  const std::string message = Status::from_errno(123456, "open").message();
  CHECK(message.starts_with("open: "));
  CHECK(message.size() > std::string("open: ").size());
}

TEST_CASE("a result holds a value or the status that says why there is none") {
  Result<std::unique_ptr<int>> good = std::make_unique<int>(7);
  CHECK(good.is_ok());
  CHECK(*good.value() == 7);
  const std::unique_ptr<int> taken = std::move(good).value();
  CHECK(*taken == 7);

  const Result<int> bad = Status(Code::kClosed, "closed");
  CHECK_FALSE(static_cast<bool>(bad));
  CHECK(bad.status().code() == Code::kClosed);
}

namespace {

// The signal that ends a child process which runs `body`; 0 when it ends by itself.
template <typename Body>
int signal_of(Body body) {
  std::cout.flush();  // or the child flushes it once more
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // The child's end is expected: no core dump, and no complaint in the report.
    const rlimit none{};
    ::setrlimit(RLIMIT_CORE, &none);
    std::signal(SIGABRT, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) != nullptr) body();
    ::_exit(0);
  }
  int outcome = 0;
  REQUIRE(::waitpid(child, &outcome, 0) == child);
  return WIFSIGNALED(outcome) ? WTERMSIG(outcome) : 0;
}

}  // namespace

TEST_CASE("a broken promise ends the process, and a kept one does not") {
  CHECK(signal_of([] { KVTIER_CHECK(1 + 1 == 3); }) == SIGABRT);
  CHECK(signal_of([] { KVTIER_CHECK(1 + 1 == 2); }) == 0);
  CHECK(signal_of([] {
          const Result<int> failed = Status(Code::kIo, "no value");
          (void)failed.value();
        }) == SIGABRT);
}
