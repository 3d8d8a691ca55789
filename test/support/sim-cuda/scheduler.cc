#include "support/sim-cuda/scheduler.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace kvtier::sim {
namespace {

// How often what another process may change is looked at.
constexpr std::chrono::microseconds kForeignPeriod(200);

}  // namespace

void Scheduler::add(std::shared_ptr<StreamState> stream) {
  stream->number = ++stream_number_;
  streams_.push_back(std::move(stream));
}

void Scheduler::end(StreamState& stream) {
  stream.is_destroyed = true;
  if (stream.queue.empty()) forget(stream);
}

void Scheduler::forget(const StreamState& stream) {
  std::erase_if(streams_, [&](const std::shared_ptr<StreamState>& other) { return other.get() == &stream; });
}

void Scheduler::enqueue(StreamState& stream, std::unique_ptr<Operation> operation) {
  operation->sequence = ++sequence_;
  // Its parts are drawn from the seed and its place alone, whatever the threads do.
  operation->random = Random(settings_.seed * 0x100000001B3U + stream.number * 1000003U + ++stream.queued);
  stream.queue.push_back(std::move(operation));
  notify();
}

void Scheduler::reseed() {
  order_ = Random(settings_.seed);
  lateness_ = Random(settings_.seed + 1);
}

void Scheduler::reset() {
  for (const std::shared_ptr<StreamState>& stream : streams_) stream->queue.clear();
  streams_.clear();
  sequence_ = 0;
  stream_number_ = 0;
  held_ = settings_.hold;
  reseed();
  notify();
}

void Scheduler::hold(bool held) {
  held_ = held;
  if (!held) {
    for (const std::shared_ptr<StreamState>& stream : streams_) stream->is_held = false;
    notify();
  }
}

bool Scheduler::can_run(const StreamState& stream) const {
  if (stream.queue.empty()) return false;
  const Operation& first = *stream.queue.front();
  if (!first.is_ready()) return false;
  if (first.started || !(stream.is_legacy || stream.is_blocking)) return true;
  // The legacy stream and the blocking streams of its context take turns in the order of the calls.
  return std::none_of(streams_.begin(), streams_.end(), [&](const std::shared_ptr<StreamState>& other) {
    const bool ordered = stream.is_legacy ? other->is_blocking : other->is_legacy;
    return ordered && other->context == stream.context && !other->queue.empty() &&
           other->queue.front()->sequence < first.sequence;
  });
}

StreamState* Scheduler::pick(bool all) {
  std::vector<StreamState*> candidates;
  for (const std::shared_ptr<StreamState>& stream : streams_) {
    if ((all || !(held_ || stream->is_held)) && can_run(*stream)) candidates.push_back(stream.get());
  }
  return candidates.empty() ? nullptr : candidates[order_.below(candidates.size())];
}

void Scheduler::finish_first(StreamState& stream) {
  stream.queue.pop_front();
  ++stream.finished;
  ++journal_.finished_work;
  if (stream.is_destroyed && stream.queue.empty()) forget(stream);
  notify();
}

Scheduler::Step Scheduler::step(StreamState& stream) {
  if (!can_run(stream)) return Step::kNothing;
  Operation& first = *stream.queue.front();
  if (!first.started) {
    first.started = true;
    if (!first.kind().empty()) first.failure = failures_.on_work(first.kind());
  }
  const bool to_fail = first.failure != cuda::Error::kSuccess;
  const Progress progress = first.run(journal_);
  if (to_fail || progress == Progress::kFailed) {
    fail(*stream.context, first.failure);
    return Step::kFinished;
  }
  if (progress == Progress::kMore) return Step::kPart;
  finish_first(stream);
  return Step::kFinished;
}

void Scheduler::fail(ContextState& context, cuda::Error error) {
  if (context.error == cuda::Error::kSuccess) context.error = error;
  for (const std::shared_ptr<StreamState>& stream : streams_) {
    if (stream->context.get() != &context) continue;
    for (const std::unique_ptr<Operation>& operation : stream->queue) operation->abandon();
    stream->queue.clear();
  }
  notify();
}

std::size_t Scheduler::drop(const ContextState& context) {
  std::size_t left = 0;
  for (const std::shared_ptr<StreamState>& stream : streams_) {
    if (stream->context.get() != &context) continue;
    left += stream->queue.size();
    for (const std::unique_ptr<Operation>& operation : stream->queue) operation->abandon();
    stream->queue.clear();
  }
  std::erase_if(streams_,
                [&](const std::shared_ptr<StreamState>& stream) { return stream->context.get() == &context; });
  notify();
  return left;
}

std::size_t Scheduler::pending() const {
  std::size_t count = 0;
  for (const std::shared_ptr<StreamState>& stream : streams_) count += stream->queue.size();
  return count;
}

void Scheduler::wait_for_change(std::unique_lock<FairMutex>& lock, bool foreign) {
  if (foreign) {
    changed_.wait_for(lock, kForeignPeriod);
  } else {
    changed_.wait(lock);
  }
}

void Scheduler::start() {
  if (std::exchange(started_, true)) return;
  // Signals are for the program's own threads.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // It lives as long as the process, as a driver does.
  std::thread([this] { run(); }).detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Scheduler::run() {
  std::unique_lock<FairMutex> lock(mutex_);
  for (;;) {
    StreamState* stream = pick(false);
    if (stream == nullptr) {
      const bool foreign = std::any_of(streams_.begin(), streams_.end(), [](const std::shared_ptr<StreamState>& one) {
        return !one->queue.empty() && one->queue.front()->is_foreign();
      });
      wait_for_change(lock, foreign);
      continue;
    }
    if (!stream->queue.front()->started && settings_.lateness_us > 0 && lateness_.below(2) == 0) {
      // Whoever reads too early shall read the bytes of before.
      const auto until =
          std::chrono::steady_clock::now() + std::chrono::microseconds(lateness_.below(settings_.lateness_us) + 1);
      while (std::chrono::steady_clock::now() < until) changed_.wait_until(lock, until);
      stream = pick(false);
      if (stream == nullptr) continue;
    }
    (void)step(*stream);
    lock.unlock();
    lock.lock();
  }
}

}  // namespace kvtier::sim
