// The driver's calls about streams. Any thread.
#include <algorithm>
#include <utility>
#include <vector>

#include "support/sim-cuda/driver_state.h"
#include "support/sim-cuda/value_operation.h"

namespace kvtier::sim::calls {

using cuda::DevicePtr;
using cuda::Error;
using cuda::Event;
using cuda::Stream;

namespace {

// Streams whose work a wait for this one includes: the legacy stream waits for the blocking ones of its context.
std::vector<std::shared_ptr<StreamState>> waited_with(Call& call, const std::shared_ptr<StreamState>& stream) {
  std::vector<std::shared_ptr<StreamState>> all = {stream};
  if (!stream->is_legacy) return all;
  for (const auto& [handle, other] : call.state().streams.all()) {
    if (other->is_blocking && other->context == stream->context) all.push_back(other);
  }
  return all;
}

}  // namespace

Error stream_create_with_priority(Stream* stream, unsigned flags, int) {
  Call call(Function::stream_create_with_priority, Needs::kContext);
  if (!call) return call.error();
  if (stream == nullptr || (flags & ~cuda::kStreamNonBlocking) != 0) return Error::kInvalidValue;
  auto made = std::make_shared<StreamState>();
  made->context = call.context();
  made->is_blocking = (flags & cuda::kStreamNonBlocking) == 0;
  made->handle = call.state().streams.add(made);
  call.scheduler().add(made);
  *stream = made->handle;
  return Error::kSuccess;
}

// The stream goes on until its work is done.
Error stream_destroy(Stream stream) {
  Call call(Function::stream_destroy, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (found->is_legacy) return Error::kInvalidHandle;
  call.state().streams.remove(stream);
  call.scheduler().end(*found);
  return Error::kSuccess;
}

Error stream_wait_event(Stream stream, Event event, unsigned flags) {
  Call call(Function::stream_wait_event, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> waiting;
  std::shared_ptr<EventState> awaited;
  if (flags != 0) return Error::kInvalidValue;
  if (const Error error = call.find(stream, waiting); error != Error::kSuccess) return error;
  if (const Error error = call.find(event, awaited); error != Error::kSuccess) return error;
  // The record of now is meant, whatever the event is recorded for later; without one there is nothing to wait for.
  if (std::shared_ptr<Moment> moment = awaited->latest(); moment) {
    call.scheduler().enqueue(*waiting, std::make_unique<WaitOperation>(std::move(moment)));
  }
  return Error::kSuccess;
}

Error stream_synchronize(Stream stream) {
  Call call(Function::stream_synchronize, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  std::vector<std::pair<std::shared_ptr<StreamState>, std::uint64_t>> goals;
  for (const std::shared_ptr<StreamState>& one : waited_with(call, found)) goals.emplace_back(one, one->queued);
  const ContextState& context = *found->context;
  call.scheduler().wait(call.lock(), false, [&] {
    return context.destroyed || context.error != Error::kSuccess ||
           std::all_of(goals.begin(), goals.end(),
                       [](const auto& goal) { return goal.first->finished >= goal.second; });
  });
  return context.destroyed ? Error::kContextIsDestroyed : context.error;
}

Error stream_query(Stream stream) {
  Call call(Function::stream_query, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  for (const std::shared_ptr<StreamState>& one : waited_with(call, found)) {
    if (!one->queue.empty()) return Error::kNotReady;
  }
  return Error::kSuccess;
}

namespace {

Error enqueue_value(Call& call, Stream stream, DevicePtr address, std::shared_ptr<StreamState>& found, Place& place) {
  if (!call.state().settings.stream_values) return Error::kNotSupported;
  if (address % sizeof(std::uint64_t) != 0) return Error::kInvalidValue;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  return call.state().memory.place(call.name(), address, sizeof(std::uint64_t), Side::kDevice, *found->context, place);
}

}  // namespace

Error stream_write_value_64(Stream stream, DevicePtr address, std::uint64_t value, unsigned flags) {
  Call call(Function::stream_write_value_64, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  Place place;
  if (flags > 1) return Error::kInvalidValue;
  if (const Error error = enqueue_value(call, stream, address, found, place); error != Error::kSuccess) return error;
  call.scheduler().enqueue(*found, std::make_unique<WriteValueOperation>(std::move(place), value));
  return Error::kSuccess;
}

Error stream_wait_value_64(Stream stream, DevicePtr address, std::uint64_t value, unsigned flags) {
  Call call(Function::stream_wait_value_64, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  Place place;
  constexpr unsigned kFlush = 1U << 30U;
  const unsigned condition = flags & ~kFlush;
  if (condition > 3) return Error::kInvalidValue;
  if (const Error error = enqueue_value(call, stream, address, found, place); error != Error::kSuccess) return error;
  call.scheduler().enqueue(
      *found, std::make_unique<WaitValueOperation>(std::move(place), value, static_cast<ValueCondition>(condition)));
  return Error::kSuccess;
}

}  // namespace kvtier::sim::calls
