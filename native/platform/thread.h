// Threads that report failure as a Status instead of an exception. Any thread.
#pragma once

#include <functional>
#include <memory>

#include "core/status.h"

namespace kvtier {

// A joinable thread; join() before destruction, or the destructor joins.
class Thread {
 public:
  // `name` (at most 15 characters) shows in debuggers. Fails with kOutOfMemory when the system gives no thread.
  [[nodiscard]] static Result<Thread> start(const char* name, std::function<void()> body);
  Thread() noexcept;
  ~Thread();
  Thread(Thread&&) noexcept;
  Thread& operator=(Thread&&) noexcept;
  void join() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The calling thread's short waits end when they should, not up to 50 us later; where the system knows no such wish,
// nothing changes.
void ask_for_fine_timers() noexcept;

}  // namespace kvtier
