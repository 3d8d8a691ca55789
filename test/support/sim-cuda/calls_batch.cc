// The driver's batch copy, in its two forms. Any thread.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "support/sim-cuda/submit_copy.h"

namespace kvtier::sim::calls {

using cuda::CopyAttributes;
using cuda::DevicePtr;
using cuda::Error;
using cuda::SourceAccessOrder;
using cuda::Stream;

namespace {

struct Batch {
  const DevicePtr* targets;
  const DevicePtr* sources;
  const std::size_t* sizes;
  std::size_t count;
  const CopyAttributes* attributes;
  const std::size_t* attribute_starts;
  std::size_t attribute_count;
};

bool is_well_formed(const Batch& batch, Stream stream) {
  // CU_STREAM_LEGACY has a name of its own; per-thread default streams are not modelled.
  if (reinterpret_cast<std::uintptr_t>(stream) <= 2) return false;
  if (batch.count == 0 || batch.attribute_count == 0 || batch.attribute_count > batch.count) return false;
  if (batch.targets == nullptr || batch.sources == nullptr || batch.sizes == nullptr) return false;
  if (batch.attributes == nullptr || batch.attribute_starts == nullptr || batch.attribute_starts[0] != 0) return false;
  for (std::size_t index = 0; index < batch.attribute_count; ++index) {
    const std::size_t start = batch.attribute_starts[index];
    if (start >= batch.count || (index > 0 && start <= batch.attribute_starts[index - 1])) return false;
    const auto order = static_cast<int>(batch.attributes[index].source_access_order);
    if (order < static_cast<int>(SourceAccessOrder::kStream) || order > static_cast<int>(SourceAccessOrder::kAny)) {
      return false;
    }
    if (batch.attributes[index].flags > 1) return false;
  }
  return true;
}

// Copies of a batch have no order, so what one writes no other may read or write.
void check_independence(Call& call, const std::vector<Segment>& segments) {
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    bool is_target;
  };
  std::vector<Range> ranges;
  ranges.reserve(2 * segments.size());
  for (const Segment& segment : segments) {
    ranges.push_back({segment.target.bytes, segment.target.bytes + segment.bytes, true});
    ranges.push_back({segment.source.bytes, segment.source.bytes + segment.bytes, false});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  const std::byte* end_of_targets = nullptr;
  const std::byte* end_of_all = nullptr;
  for (const Range& range : ranges) {
    if (range.begin < (range.is_target ? end_of_all : end_of_targets)) {
      call.violation("two copies of a batch depend on each other");
      return;
    }
    end_of_all = std::max(end_of_all, range.end);
    if (range.is_target) end_of_targets = std::max(end_of_targets, range.end);
  }
}

// Whether the source is read in the call instead of in stream order.
bool is_read_early(SourceAccessOrder order, DriverState& state, Random& random) {
  switch (order) {
    case SourceAccessOrder::kStream:
    case SourceAccessOrder::kInvalid:
      return false;
    case SourceAccessOrder::kDuringApiCall:
      return true;
    case SourceAccessOrder::kAny:
      break;
  }
  switch (state.settings.any_order) {
    case AnyOrder::kEarly:
      return true;
    case AnyOrder::kLate:
      return false;
    case AnyOrder::kRandom:
      return random.below(2) == 0;
  }
  return false;
}

Error copy_batch(Function function, const Batch& batch, std::size_t* failed, Stream stream) {
  Call call(function, Needs::kContext);
  if (failed != nullptr) *failed = SIZE_MAX;
  if (!call) return call.error();
  if (!is_well_formed(batch, stream)) return Error::kInvalidValue;
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  DriverState& state = call.state();
  state.journal.batch_descriptors += batch.count;
  if (batch.count > state.settings.batch_limit) {
    call.violation("a batch of " + std::to_string(batch.count) + " copies, with a limit of " +
                   std::to_string(state.settings.batch_limit));
  }
  std::vector<Segment> segments(batch.count);
  for (std::size_t index = 0; index < batch.count; ++index) {
    const CopyRequest request{
        .target = batch.targets[index], .source = batch.sources[index], .bytes = batch.sizes[index]};
    const Error error =
        request.bytes == 0 ? Error::kInvalidValue : place_segment(call, request, *found->context, segments[index]);
    if (error != Error::kSuccess) {
      if (failed != nullptr) *failed = index;
      return error;
    }
  }
  check_independence(call, segments);
  Random random(state.settings.seed ^ (found->number << 32U) ^ found->queued);
  std::size_t attribute = 0;
  for (std::size_t index = 0; index < batch.count; ++index) {
    if (attribute + 1 < batch.attribute_count && batch.attribute_starts[attribute + 1] == index) ++attribute;
    if (is_read_early(batch.attributes[attribute].source_access_order, state, random)) segments[index].stage();
  }
  return submit(call, found, std::move(segments));
}

}  // namespace

Error memcpy_batch_async_12080(DevicePtr* targets, DevicePtr* sources, std::size_t* sizes, std::size_t count,
                               CopyAttributes* attributes, std::size_t* attribute_starts, std::size_t attribute_count,
                               std::size_t* failed, Stream stream) {
  const Batch batch{targets, sources, sizes, count, attributes, attribute_starts, attribute_count};
  return copy_batch(Function::memcpy_batch_async_12080, batch, failed, stream);
}

Error memcpy_batch_async_13000(DevicePtr* targets, DevicePtr* sources, std::size_t* sizes, std::size_t count,
                               CopyAttributes* attributes, std::size_t* attribute_starts, std::size_t attribute_count,
                               Stream stream) {
  const Batch batch{targets, sources, sizes, count, attributes, attribute_starts, attribute_count};
  return copy_batch(Function::memcpy_batch_async_13000, batch, nullptr, stream);
}

}  // namespace kvtier::sim::calls
