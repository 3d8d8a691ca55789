#include "support/sim-cuda/failures.h"

namespace kvtier::sim {

bool is_named(Function function, std::string_view name) {
  return name.empty() || name == info_of(function).base || name == info_of(function).symbol;
}

void Failures::reset(std::uint64_t seed) {
  counts_.fill(0);
  injected_ = 0;
  calls_planned_.clear();
  work_planned_.clear();
  random_ = Random(seed);
}

cuda::Error Failures::on_call(Function function) {
  ++counts_[static_cast<std::size_t>(function)];
  int code = 0;
  for (Plan<CallFailure>& plan : calls_planned_) {
    const CallFailure& failure = plan.failure;
    if (!is_named(function, failure.function)) continue;
    ++plan.seen;
    const bool hit = failure.percent > 0
                         ? random_.below(100) < failure.percent
                         : plan.seen >= failure.nth && (failure.times == 0 || plan.seen - failure.nth < failure.times);
    if (hit && code == 0) code = failure.code;
  }
  if (code != 0) ++injected_;
  return static_cast<cuda::Error>(code);
}

cuda::Error Failures::on_work(std::string_view kind) {
  int code = 0;
  for (Plan<WorkFailure>& plan : work_planned_) {
    if (!plan.failure.kind.empty() && plan.failure.kind != kind) continue;
    if (++plan.seen == plan.failure.nth) code = plan.failure.code;
  }
  if (code != 0) ++injected_;
  return static_cast<cuda::Error>(code);
}

std::uint64_t Failures::calls(std::string_view function) const {
  std::uint64_t count = 0;
  for (std::size_t index = 0; index < kFunctionCount; ++index) {
    if (is_named(static_cast<Function>(index), function)) count += counts_[index];
  }
  return count;
}

}  // namespace kvtier::sim
