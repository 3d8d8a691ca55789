// process_watch.h: seeing that a process has ended.
#if defined(__linux__)
#include "platform/process_watch.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using kvtier::ProcessWatch;

TEST_CASE("a process is seen to end, also before its parent has asked for its status") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  const ProcessWatch watch(child);
  CHECK_FALSE(watch.has_ended());
  CHECK_FALSE(watch.has_ended());
  ::kill(child, SIGKILL);
  siginfo_t ended{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);
  CHECK(watch.has_ended());
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(watch.has_ended());
  CHECK(ProcessWatch(child).has_ended());
}

TEST_CASE("this process has not ended, and what is no process number is not taken for one that has") {
  CHECK_FALSE(ProcessWatch(::getpid()).has_ended());
  CHECK_FALSE(ProcessWatch(-1).has_ended());
}
#endif
