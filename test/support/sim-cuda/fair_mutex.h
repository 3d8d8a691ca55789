// A mutex whose waiters get it in the order they came, so that the thread that runs queued work, which takes it for
// every piece, does not starve the calls. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace kvtier::sim {

class FairMutex {
 public:
  void lock() {
    std::unique_lock<std::mutex> guard(mutex_);
    const std::uint64_t ticket = next_++;
    turn_.wait(guard, [&] { return serving_ == ticket; });
  }

  void unlock() {
    bool waited = false;
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      ++serving_;
      waited = serving_ != next_;
    }
    if (waited) turn_.notify_all();
  }

 private:
  std::mutex mutex_;  // guards both tickets
  std::condition_variable turn_;
  std::uint64_t next_ = 0;
  std::uint64_t serving_ = 0;
};

}  // namespace kvtier::sim
