#include "support/sim-cuda/value_operation.h"

#include <atomic>

#include "support/sim-cuda/copy_operation.h"

namespace kvtier::sim {
namespace {

std::atomic_ref<std::uint64_t> value_at(const Place& place) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(place.bytes));
}

}  // namespace

Progress WriteValueOperation::run(Journal& journal) {
  if (!is_usable(place_, "cuStreamWriteValue64", journal)) {
    failure = cuda::Error::kIllegalAddress;
    return Progress::kFailed;
  }
  value_at(place_).store(value_);
  return Progress::kDone;
}

bool WaitValueOperation::is_ready() const {
  const Region* region = place_.region.get();
  // What is gone fails when it runs.
  if (region->gone || region->is_orphan()) return true;
  const std::uint64_t value = value_at(place_).load();
  switch (condition_) {
    case ValueCondition::kGreaterOrEqual:
      return static_cast<std::int64_t>(value - value_) >= 0;
    case ValueCondition::kEqual:
      return value == value_;
    case ValueCondition::kAnd:
      return (value & value_) != 0;
    case ValueCondition::kNor:
      return ~(value | value_) != 0;
  }
  return false;
}

Progress WaitValueOperation::run(Journal& journal) {
  if (is_usable(place_, "cuStreamWaitValue64", journal)) return Progress::kDone;
  failure = cuda::Error::kIllegalAddress;
  return Progress::kFailed;
}

}  // namespace kvtier::sim
