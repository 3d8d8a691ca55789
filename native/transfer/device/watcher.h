// The thread that sees when what operations wait for on GPUs has come: no thread waits for a single one of them, and no
// callback of the driver is used. watch(): any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>

#include "platform/thread.h"
#include "transfer/batch.h"

namespace kvtier {

class DeviceWatcher {
 public:
  // `on_come` is called on the watcher's thread with every operation whose waiting has ended.
  explicit DeviceWatcher(std::function<void(Work&&)> on_come) : on_come_(std::move(on_come)) {}
  // Ends the thread. Precondition: it watches nothing.
  ~DeviceWatcher();
  DeviceWatcher(const DeviceWatcher&) = delete;
  DeviceWatcher& operator=(const DeviceWatcher&) = delete;

  // Starts the thread where it does not run yet; before the first watch(). Fails with kOutOfMemory.
  [[nodiscard]] Status start();
  void watch(Work&& work);

 private:
  void run();
  [[nodiscard]] std::list<Work> take_come(std::list<Work>& watched);

  const std::function<void(Work&&)> on_come_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable wake_;
  std::list<Work> arrived_;  // not looked at yet
  bool stopping_ = false;
  bool started_ = false;
  Thread thread_;
};

}  // namespace kvtier
