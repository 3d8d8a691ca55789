// From the pointers of a copy call to queued work: what the calls of one copy, of a rectangle and of a batch share.
// Guarded by the simulator's one mutex.
#pragma once

#include <cstdint>
#include <vector>

#include "support/sim-cuda/copy_operation.h"
#include "support/sim-cuda/driver_state.h"

namespace kvtier::sim {

struct CopyRequest {
  std::uint64_t target = 0;
  std::uint64_t source = 0;
  std::size_t bytes = 0;
  Side target_side = Side::kEither;
  Side source_side = Side::kEither;
};

// Looks both sides up.
[[nodiscard]] cuda::Error place_segment(Call& call, const CopyRequest& request, const ContextState& context,
                                        Segment& segment);

// Queues the copies and does to pageable memory what a driver does: a source is read before the call returns, and a
// target is complete when it returns.
[[nodiscard]] cuda::Error submit(Call& call, const std::shared_ptr<StreamState>& stream, std::vector<Segment> segments);

}  // namespace kvtier::sim
