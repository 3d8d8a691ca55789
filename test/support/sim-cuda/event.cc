#include "support/sim-cuda/event.h"

#include <algorithm>

namespace kvtier::sim {

void LocalMoment::reach() {
  if (reached_) return;
  reached_ = true;
  time_ = std::chrono::steady_clock::now();
}

void SharedMoment::reach() {
  std::atomic<std::uint64_t>& reached = event_->page().reached;
  std::uint64_t before = reached.load();
  while (before < number_ && !reached.compare_exchange_weak(before, number_)) {
  }
}

std::shared_ptr<Moment> EventState::latest() const {
  if (!shared) return local;
  const std::uint64_t number = shared->page().recorded.load();
  return number == 0 ? nullptr : std::make_shared<SharedMoment>(shared, number);
}

std::shared_ptr<Moment> EventState::record() {
  if (shared) return std::make_shared<SharedMoment>(shared, shared->page().recorded.fetch_add(1) + 1);
  local = std::make_shared<LocalMoment>();
  return local;
}

Progress RecordOperation::run(Journal&) {
  moment_->reach();
  return Progress::kDone;
}

}  // namespace kvtier::sim
