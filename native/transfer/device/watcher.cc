#include "transfer/device/watcher.h"

#include <algorithm>
#include <chrono>

#include "core/check.h"

namespace kvtier {
namespace {

using Clock = std::chrono::steady_clock;

// Copies take tens of microseconds; an engine's work that they wait for takes milliseconds. The longer nothing has come
// the less often it is asked, at the price of an eighth of the wait.
constexpr std::chrono::microseconds kShortest{20};
constexpr std::chrono::microseconds kLongest{1000};

std::chrono::microseconds pause_after(Clock::duration idle) noexcept {
  return std::clamp(std::chrono::duration_cast<std::chrono::microseconds>(idle / 8), kShortest, kLongest);
}

}  // namespace

DeviceWatcher::~DeviceWatcher() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

Status DeviceWatcher::start() {
  const std::lock_guard guard(mutex_);
  if (started_) return Status::ok();
  Result<Thread> thread = Thread::start("kvtier-gpu", [this] {
    ask_for_fine_timers();
    run();
  });
  if (!thread.is_ok()) return thread.status();
  thread_ = std::move(thread).value();
  started_ = true;
  return Status::ok();
}

void DeviceWatcher::watch(Work&& work) {
  {
    const std::lock_guard guard(mutex_);
    KVTIER_CHECK(started_ && !stopping_);
    arrived_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void DeviceWatcher::run() {
  std::list<Work> watched;
  Clock::time_point last_came = Clock::now();
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!arrived_.empty()) {
      watched.splice(watched.end(), arrived_);
      last_came = Clock::now();
    }
    if (watched.empty()) {
      if (stopping_) return;
      wake_.wait(lock);
      continue;
    }
    lock.unlock();
    std::list<Work> come = take_come(watched);
    if (!come.empty()) last_came = Clock::now();
    for (Work& work : come) on_come_(std::move(work));
    come.clear();
    lock.lock();
    if (arrived_.empty() && !watched.empty()) wake_.wait_for(lock, pause_after(Clock::now() - last_came));
  }
}

std::list<Work> DeviceWatcher::take_come(std::list<Work>& watched) {
  std::list<Work> come;
  for (auto each = watched.begin(); each != watched.end();) {
    const auto next = std::next(each);
    if (each->batch->is_given_up()) each->device->give_up();
    if (each->device->poll()) come.splice(come.end(), watched, each);
    each = next;
  }
  return come;
}

}  // namespace kvtier
