#include "platform/thread.h"

#include <pthread.h>
#include <signal.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include <cstring>
#include <new>
#include <utility>

namespace kvtier {

struct Thread::Impl {
  pthread_t handle{};
  std::function<void()> body;
  char name[16] = "";
};

namespace {

void set_name(const char* name) noexcept {
#if defined(__APPLE__)
  ::pthread_setname_np(name);
#else
  ::pthread_setname_np(::pthread_self(), name);
#endif
}

// Blocks every signal in this thread for as long as it lives; a thread that is made meanwhile inherits the mask, so
// that no signal handler of the host ever runs on it.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    // A fault of the thread itself is always its own; blocked, it would kill the process without its handler.
    ::sigdelset(&all, SIGSEGV);
    ::sigdelset(&all, SIGBUS);
    ::sigdelset(&all, SIGFPE);
    ::sigdelset(&all, SIGILL);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Result<Thread> Thread::start(const char* name, std::function<void()> body) {
  auto impl = std::make_unique<Impl>();
  impl->body = std::move(body);
  std::strncpy(impl->name, name, sizeof impl->name - 1);
  const auto entry = [](void* argument) -> void* {
    // The Impl outlives the thread: it goes only after join().
    Impl& self = *static_cast<Impl*>(argument);
    set_name(self.name);
    self.body();
    // What the body captured is released on this thread, before join() returns.
    self.body = nullptr;
    return nullptr;
  };
  int error = 0;
  {
    const SignalsBlocked blocked;
    error = ::pthread_create(&impl->handle, nullptr, entry, impl.get());
  }
  if (error != 0) {
    return Status(Code::kOutOfMemory, "thread '" + std::string(impl->name) + "' could not be started: " +
                                          Status::from_errno(error, "pthread_create").message());
  }
  Thread thread;
  thread.impl_ = std::move(impl);
  return thread;
}

Thread::Thread() noexcept = default;

Thread::~Thread() {
  join();
}

Thread::Thread(Thread&&) noexcept = default;

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this != &other) {
    join();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

void Thread::join() noexcept {
  if (impl_ == nullptr) return;
  KVTIER_CHECK(::pthread_equal(impl_->handle, ::pthread_self()) == 0);
  KVTIER_CHECK(::pthread_join(impl_->handle, nullptr) == 0);
  impl_.reset();
}

void ask_for_fine_timers() noexcept {
#if defined(__linux__)
  static_cast<void>(::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL));
#endif
}

}  // namespace kvtier
