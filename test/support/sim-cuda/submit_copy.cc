#include "support/sim-cuda/submit_copy.h"

#include <string>
#include <utility>

namespace kvtier::sim {

using cuda::Error;

Error place_segment(Call& call, const CopyRequest& request, const ContextState& context, Segment& segment) {
  Memory& memory = call.state().memory;
  segment.bytes = request.bytes;
  const Error error =
      memory.place(call.name(), request.target, request.bytes, request.target_side, context, segment.target);
  if (error != Error::kSuccess) return error;
  return memory.place(call.name(), request.source, request.bytes, request.source_side, context, segment.source);
}

Error submit(Call& call, const std::shared_ptr<StreamState>& stream, std::vector<Segment> segments) {
  bool waits = false;
  bool is_pageable = false;
  for (Segment& segment : segments) {
    if (segment.target.is_pageable()) {
      waits = true;
      is_pageable = true;
    }
    if (!segment.is_staged && segment.source.is_pageable()) {
      is_pageable = true;
      segment.stage();
    }
    if (segment.target.bytes < segment.source.bytes + segment.bytes && !segment.is_staged &&
        segment.source.bytes < segment.target.bytes + segment.bytes) {
      call.violation("the two sides of a copy overlap");
    }
  }
  if (is_pageable) ++call.state().journal.pageable_copies;
  call.scheduler().enqueue(*stream, std::make_unique<CopyOperation>(std::string(call.name()), std::move(segments)));
  if (!waits) return Error::kSuccess;
  const std::uint64_t goal = stream->queued;
  const ContextState& context = *stream->context;
  call.scheduler().wait(call.lock(), false, [&] {
    return stream->finished >= goal || context.destroyed || context.error != Error::kSuccess;
  });
  return context.destroyed ? Error::kContextIsDestroyed : context.error;
}

}  // namespace kvtier::sim
