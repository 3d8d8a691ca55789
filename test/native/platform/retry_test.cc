#include "platform/retry.h"

#include <doctest/doctest.h>
#include <cerrno>

TEST_CASE("a call is made again as long as signals interrupt it") {
  int calls = 0;
  const long result = kvtier::retried([&]() -> long {
    if (++calls < 4) {
      errno = EINTR;
      return -1;
    }
    return 77;
  });
  CHECK(result == 77);
  CHECK(calls == 4);

  calls = 0;
  CHECK(kvtier::retried_error([&] { return ++calls < 3 ? EINTR : 0; }) == 0);
  CHECK(calls == 3);
}

TEST_CASE("any other failure is the result of the first call") {
  int calls = 0;
  const int result = kvtier::retried([&] {
    ++calls;
    errno = EIO;
    return -1;
  });
  CHECK(result == -1);
  CHECK(errno == EIO);
  CHECK(calls == 1);
  CHECK(kvtier::retried_error([&] { return ++calls, ENOSPC; }) == ENOSPC);
  CHECK(calls == 2);
}

TEST_CASE("a success is not repeated, whatever errno says") {
  int calls = 0;
  errno = EINTR;
  CHECK(kvtier::retried([&] { return ++calls; }) == 1);
}
