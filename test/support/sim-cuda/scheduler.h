// Runs what streams have queued: late, part by part, and over independent streams in an order that the seed draws. One
// thread of its own, or the thread of a test that steps. Guarded by the simulator's one mutex, which is held while a
// part runs.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "support/sim-cuda/failures.h"
#include "support/sim-cuda/fair_mutex.h"
#include "support/sim-cuda/journal.h"
#include "support/sim-cuda/settings.h"
#include "support/sim-cuda/stream.h"

namespace kvtier::sim {

class Scheduler {
 public:
  Scheduler(FairMutex& mutex, const Settings& settings, Failures& failures, Journal& journal)
      : mutex_(mutex), settings_(settings), failures_(failures), journal_(journal) {}

  void add(std::shared_ptr<StreamState> stream);
  // The stream has lost its handle and goes when its work is done.
  void end(StreamState& stream);
  void enqueue(StreamState& stream, std::unique_ptr<Operation> operation);

  // Starts the thread, once.
  void start();
  void reset();
  void reseed();

  void hold(bool held);
  [[nodiscard]] bool is_held() const { return held_; }

  // Runs one part of the stream's first operation. kNothing: it has none, or it may not run yet.
  enum class Step : std::uint8_t { kNothing, kPart, kFinished };
  Step step(StreamState& stream);
  // One that can run, drawn; nullptr: none can. With `all` also those that are held.
  [[nodiscard]] StreamState* pick(bool all);

  // Leaves a context in error: nothing of it runs any more.
  void fail(ContextState& context, cuda::Error error);
  // Drops the streams of a context that ends; returns how much work they still had.
  std::size_t drop(const ContextState& context);

  // Waits on the caller's lock until the condition holds. It is evaluated again whenever anything changed, and often
  // while something waits for another process.
  template <typename Condition>
  void wait(std::unique_lock<FairMutex>& lock, bool foreign, Condition condition) {
    while (!condition()) wait_for_change(lock, foreign);
  }
  void notify() { changed_.notify_all(); }
  // Notified at every change.
  [[nodiscard]] std::condition_variable_any& changed() { return changed_; }

  [[nodiscard]] std::size_t pending() const;

 private:
  [[nodiscard]] bool can_run(const StreamState& stream) const;
  void wait_for_change(std::unique_lock<FairMutex>& lock, bool foreign);
  void finish_first(StreamState& stream);
  void forget(const StreamState& stream);
  [[noreturn]] void run();

  FairMutex& mutex_;
  const Settings& settings_;
  Failures& failures_;
  Journal& journal_;
  std::condition_variable_any changed_;
  std::vector<std::shared_ptr<StreamState>> streams_;  // by age
  Random order_{0};                                    // which stream is next
  Random lateness_{0};                                 // how long the thread dawdles
  std::uint64_t sequence_ = 0;
  std::uint64_t stream_number_ = 0;
  bool held_ = false;
  bool started_ = false;
};

}  // namespace kvtier::sim
