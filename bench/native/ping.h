// The floor of a completion: a thread that is woken by the JavaScript thread and calls back through a bare thread-safe
// function. Belongs to the JavaScript thread.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace limits {

class Ping {
 public:
  // `callback` is called on the JavaScript thread once for every send().
  Ping(Napi::Env env, const Napi::Function& callback);
  // Ends the thread; pings on their way are lost.
  ~Ping();
  Ping(const Ping&) = delete;
  Ping& operator=(const Ping&) = delete;

  void send();

 private:
  void answer();

  Napi::ThreadSafeFunction function_;
  std::mutex mutex_;  // guards waiting_ and stopping_
  std::condition_variable wake_;
  unsigned waiting_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace limits
