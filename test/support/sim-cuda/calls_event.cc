// The driver's calls about events. Any thread.
#include <algorithm>
#include <chrono>

#include "support/sim-cuda/driver_state.h"
#include "support/sim-cuda/ipc.h"

namespace kvtier::sim::calls {

using cuda::Error;
using cuda::Event;
using cuda::Stream;

Error event_create(Event* event, unsigned flags) {
  Call call(Function::event_create, Needs::kContext);
  if (!call) return call.error();
  constexpr unsigned kKnown = cuda::kEventBlockingSync | cuda::kEventDisableTiming | cuda::kEventInterprocess;
  if (event == nullptr || (flags & ~kKnown) != 0) return Error::kInvalidValue;
  auto made = std::make_shared<EventState>();
  made->context = call.context();
  made->flags = flags;
  if ((flags & cuda::kEventInterprocess) != 0) {
    if ((flags & cuda::kEventDisableTiming) == 0) return Error::kInvalidValue;
    made->shared = make_shared_event();
    if (!made->shared) return Error::kOutOfMemory;
  }
  *event = call.state().events.add(std::move(made));
  return Error::kSuccess;
}

// Records that are pending stay so: whoever waits for one holds it.
Error event_destroy(Event event) {
  Call call(Function::event_destroy, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<EventState> found;
  if (const Error error = call.find(event, found); error != Error::kSuccess) return error;
  if (found->shared && found->shared->is_owner) found->shared->page().destroyed.store(1);
  call.state().events.remove(event);
  return Error::kSuccess;
}

Error event_record(Event event, Stream stream) {
  Call call(Function::event_record, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<EventState> recorded;
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(event, recorded); error != Error::kSuccess) return error;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (recorded->context != found->context) return Error::kInvalidHandle;
  call.scheduler().enqueue(*found, std::make_unique<RecordOperation>(recorded->record()));
  return Error::kSuccess;
}

Error event_query(Event event) {
  Call call(Function::event_query, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<EventState> found;
  if (const Error error = call.find(event, found); error != Error::kSuccess) return error;
  const std::shared_ptr<Moment> latest = found->latest();
  return !latest || latest->is_reached() ? Error::kSuccess : Error::kNotReady;
}

Error event_synchronize(Event event) {
  Call call(Function::event_synchronize, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<EventState> found;
  if (const Error error = call.find(event, found); error != Error::kSuccess) return error;
  const std::shared_ptr<Moment> latest = found->latest();
  if (!latest) return Error::kSuccess;
  const ContextState& context = *found->context;
  call.scheduler().wait(call.lock(), latest->is_foreign(),
                        [&] { return latest->is_reached() || context.destroyed || context.error != Error::kSuccess; });
  return context.destroyed ? Error::kContextIsDestroyed : context.error;
}

Error event_elapsed_time(float* milliseconds, Event start, Event end) {
  Call call(Function::event_elapsed_time, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<EventState> first;
  std::shared_ptr<EventState> second;
  if (milliseconds == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(start, first); error != Error::kSuccess) return error;
  if (const Error error = call.find(end, second); error != Error::kSuccess) return error;
  const bool timed = ((first->flags | second->flags) & cuda::kEventDisableTiming) == 0;
  if (!timed || !first->local || !second->local || first->context != second->context) return Error::kInvalidHandle;
  if (!first->local->is_reached() || !second->local->is_reached()) return Error::kNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(second->local->time() - first->local->time()).count();
  return Error::kSuccess;
}

}  // namespace kvtier::sim::calls
