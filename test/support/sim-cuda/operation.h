// What a stream has queued: one piece of work, which runs in parts so that others see it half done. Guarded by the
// simulator's one mutex.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "platform/cuda/cuda_types.h"
#include "support/sim-cuda/journal.h"
#include "support/sim-cuda/random.h"

namespace kvtier::sim {

enum class Progress : std::uint8_t { kMore, kDone, kFailed };

class Operation {
 public:
  virtual ~Operation() = default;

  // Whether it may run; false while what it waits for has not come.
  [[nodiscard]] virtual bool is_ready() const { return true; }
  // Whether is_ready() may change without a call into this process's simulator.
  [[nodiscard]] virtual bool is_foreign() const { return false; }
  // Runs one part. After kFailed, the context is in error with code `failure`.
  [[nodiscard]] virtual Progress run(Journal& journal) = 0;
  // It never runs (again), for its context is in error.
  virtual void abandon() {}

  // "copy", "memset", "kernel"; empty for what moves no bytes.
  [[nodiscard]] virtual std::string_view kind() const { return {}; }
  [[nodiscard]] virtual std::string text() const = 0;

  std::uint64_t sequence = 0;  // over all streams, in the order of the calls
  bool started = false;
  cuda::Error failure = cuda::Error::kSuccess;  // set from outside: it fails with this after its first part
  Random random{0};

 protected:
  Operation() = default;
};

}  // namespace kvtier::sim
