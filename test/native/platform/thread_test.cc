#include "platform/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

using kvtier::Thread;

TEST_CASE("a thread runs its body once, under its name, and join waits for it") {
  int runs = 0;
  std::string name;
  auto thread = Thread::start("kvtier-io-0", [&] {
    ++runs;
    char text[16] = "";
    ::pthread_getname_np(::pthread_self(), text, sizeof text);
    name = text;
  });
  REQUIRE(thread.is_ok());
  thread.value().join();
  CHECK(runs == 1);
  CHECK(name == "kvtier-io-0");
  thread.value().join();  // a second join is nothing
}

TEST_CASE("a name that is too long is cut, not refused") {
  std::string name;
  auto thread = Thread::start("a-name-of-more-than-fifteen", [&] {
    char text[16] = "";
    ::pthread_getname_np(::pthread_self(), text, sizeof text);
    name = text;
  });
  REQUIRE(thread.is_ok());
  thread.value().join();
  CHECK(name == "a-name-of-more-");
}

TEST_CASE("a thread takes no signal of the host, and the starting thread's mask stays") {
  sigset_t before;
  ::sigemptyset(&before);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  sigset_t inside;
  ::sigemptyset(&inside);
  auto thread = Thread::start("masked", [&] { ::pthread_sigmask(SIG_SETMASK, nullptr, &inside); });
  REQUIRE(thread.is_ok());
  thread.value().join();
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE, SIGWINCH}) {
    CAPTURE(number);
    CHECK(::sigismember(&inside, number) == 1);
  }
  // Faults of the thread itself keep their handlers.
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    CAPTURE(number);
    CHECK(::sigismember(&inside, number) == 0);
  }
  sigset_t after;
  ::sigemptyset(&after);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD}) {
    CHECK(::sigismember(&before, number) == ::sigismember(&after, number));
  }
}

TEST_CASE("the destructor and an assignment join the thread that they replace") {
  std::atomic<int> done{0};
  {
    auto first = Thread::start("first", [&] { ++done; });
    REQUIRE(first.is_ok());
    Thread thread = std::move(first).value();
    auto second = Thread::start("second", [&] { ++done; });
    REQUIRE(second.is_ok());
    thread = std::move(second).value();
    CHECK(done.load() >= 1);
  }
  CHECK(done.load() == 2);
}

TEST_CASE("what the body holds is released before join returns") {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  auto thread = Thread::start("holder", [held = std::move(held)] { (void)held; });
  REQUIRE(thread.is_ok());
  thread.value().join();
  CHECK(watch.expired());
}

#if defined(__linux__) && !defined(KVTIER_SANITIZED)
TEST_CASE("a thread that the system does not give is a status, not an end") {
  std::cout.flush();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // No new memory, hence no new stack; a few stacks of threads that ended may be left, and are used up first.
    const rlimit limit{1, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(2);
    for (int i = 0; i < 100; ++i) {
      auto thread = Thread::start("waiting", [] { ::pause(); });
      if (!thread.is_ok()) {
        const bool named = thread.status().message().find("'waiting'") != std::string::npos;
        ::_exit(named && thread.status().code() == kvtier::Code::kOutOfMemory ? 0 : 3);
      }
      new Thread(std::move(thread).value());  // never joined: the process ends first
    }
    ::_exit(4);
  }
  int outcome = 0;
  REQUIRE(::waitpid(child, &outcome, 0) == child);
  REQUIRE(WIFEXITED(outcome));
  CHECK(WEXITSTATUS(outcome) == 0);
}
#endif
