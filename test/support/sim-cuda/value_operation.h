// Writes of, and waits for, a 64-bit value in memory as queued work. Guarded by the simulator's one mutex; the value
// itself is read and written atomically, for other processes and the CPU may do the same.
#pragma once

#include <cstdint>
#include <string>

#include "support/sim-cuda/operation.h"
#include "support/sim-cuda/region.h"

namespace kvtier::sim {

class WriteValueOperation final : public Operation {
 public:
  WriteValueOperation(Place place, std::uint64_t value) : place_(std::move(place)), value_(value) {}

  Progress run(Journal& journal) override;
  [[nodiscard]] std::string text() const override { return "cuStreamWriteValue64"; }

 private:
  Place place_;
  std::uint64_t value_;
};

enum class ValueCondition : std::uint8_t { kGreaterOrEqual = 0, kEqual = 1, kAnd = 2, kNor = 3 };

class WaitValueOperation final : public Operation {
 public:
  WaitValueOperation(Place place, std::uint64_t value, ValueCondition condition)
      : place_(std::move(place)), value_(value), condition_(condition) {}

  [[nodiscard]] bool is_ready() const override;
  [[nodiscard]] bool is_foreign() const override { return true; }
  Progress run(Journal& journal) override;
  [[nodiscard]] std::string text() const override { return "cuStreamWaitValue64"; }

 private:
  Place place_;
  std::uint64_t value_;
  ValueCondition condition_;
};

}  // namespace kvtier::sim
