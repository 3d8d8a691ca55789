// Counts of calls, and the calls and pieces of work that are to fail. Guarded by the simulator's one mutex.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "platform/cuda/cuda_types.h"
#include "support/sim-cuda/functions.h"
#include "support/sim-cuda/random.h"
#include "support/sim-cuda/settings.h"

namespace kvtier::sim {

class Failures {
 public:
  void reset(std::uint64_t seed);
  void add(CallFailure failure) { calls_planned_.push_back({std::move(failure), 0}); }
  void add(WorkFailure failure) { work_planned_.push_back({std::move(failure), 0}); }

  void forget_plans() {
    calls_planned_.clear();
    work_planned_.clear();
  }

  // Counts a call and says what it has to answer instead of doing anything; kSuccess: nothing is planned.
  [[nodiscard]] cuda::Error on_call(Function function);
  // The same for an operation that starts.
  [[nodiscard]] cuda::Error on_work(std::string_view kind);

  // Counts a failure that was made in another way.
  void note_injected() noexcept { ++injected_; }
  // Failures that happened, of calls and of work, since the last reset.
  [[nodiscard]] std::uint64_t injected() const noexcept { return injected_; }

  // By base or exported name; empty: all.
  [[nodiscard]] std::uint64_t calls(std::string_view function) const;

 private:
  template <typename Failure>
  struct Plan {
    Failure failure;
    std::uint64_t seen = 0;
  };

  std::array<std::uint64_t, kFunctionCount> counts_{};
  std::uint64_t injected_ = 0;
  std::vector<Plan<CallFailure>> calls_planned_;
  std::vector<Plan<WorkFailure>> work_planned_;
  Random random_{0};
};

// Whether a name, as a test gives it, means this function.
[[nodiscard]] bool is_named(Function function, std::string_view name);

}  // namespace kvtier::sim
