// A stream: work in the order of its calls. Guarded by the simulator's one mutex.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "support/sim-cuda/context.h"
#include "support/sim-cuda/operation.h"

namespace kvtier::sim {

struct StreamState {
  std::shared_ptr<ContextState> context;
  cuda::Stream handle = nullptr;
  bool is_legacy = false;
  bool is_blocking = false;  // waits for the legacy stream, and it for this one
  bool is_held = false;
  bool is_destroyed = false;  // has no handle any more, and ends with its work
  std::uint64_t number = 0;
  std::uint64_t queued = 0;
  std::uint64_t finished = 0;
  std::deque<std::unique_ptr<Operation>> queue;
};

}  // namespace kvtier::sim
