#include "support/sim-cuda/driver_state.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace kvtier::sim {
namespace {

using cuda::Error;

// CU_STREAM_LEGACY
const auto kNamedLegacyStream = reinterpret_cast<cuda::Stream>(std::uintptr_t{1});

thread_local cuda::Context current = nullptr;

}  // namespace

cuda::Uuid uuid_of(int physical) {
  cuda::Uuid uuid{{'k', 'v', 't', 'i', 'e', 'r', '-', 's', 'i', 'm', '-', 'g', 'p', 'u', '-', 0}};
  uuid.bytes.back() = static_cast<unsigned char>(physical + 1);
  return uuid;
}

DriverState& driver_state() {
  static DriverState& state = *[] {
    auto* made = new DriverState;
    made->reset(nullptr);
    return made;
  }();
  return state;
}

cuda::Context current_context() {
  return current;
}

void set_current_context(cuda::Context context) {
  current = context;
}

void DriverState::apply() {
  journal.configure(settings.report, settings.abort);
  // Each plan is taken over once, so that a later change of settings does not repeat it.
  for (CallFailure& failure : settings.call_failures) failures.add(std::move(failure));
  for (WorkFailure& failure : settings.work_failures) failures.add(std::move(failure));
  settings.call_failures.clear();
  settings.work_failures.clear();
}

void DriverState::reset(const char* text) {
  settings = Settings();
  if (const char* environment = std::getenv("KVTIER_SIM_CUDA"); environment != nullptr) {
    apply_settings(environment, settings);
  }
  if (text != nullptr) apply_settings(text, settings);
  process.store(0);
  ++generation;
  scheduler.reset();
  streams.clear();
  events.clear();
  functions.clear();
  modules.clear();
  memory.reset();
  // A context and its legacy stream hold each other.
  for (const auto& [number, context] : contexts.all()) context->legacy = nullptr;
  contexts.clear();
  devices.clear();
  for (const int physical : settings.visible) devices.emplace_back().physical = physical;
  journal = Journal();
  failures.reset(settings.seed + 2);
  apply();
}

Error DriverState::release(DeviceState& device) {
  if (!device.primary) return Error::kInvalidContext;
  const std::shared_ptr<ContextState> context = device.primary;
  if (--context->retains > 0) return Error::kSuccess;
  const std::size_t left = scheduler.drop(*context);
  if (left > 0) {
    journal.violation("cuDevicePrimaryCtxRelease: " + std::to_string(left) + " operations are still queued on device " +
                      std::to_string(context->ordinal));
  }
  std::vector<cuda::Stream> ended;
  for (const auto& [number, stream] : streams.all()) {
    if (stream->context == context) ended.push_back(stream->handle);
  }
  for (const cuda::Stream stream : ended) streams.remove(stream);
  std::vector<cuda::Event> ended_events;
  for (const auto& [number, event] : events.all()) {
    if (event->context == context) ended_events.push_back(reinterpret_cast<cuda::Event>(number));
  }
  for (const cuda::Event event : ended_events) events.remove(event);
  memory.drop(*context);
  contexts.remove(context->handle);
  context->destroyed = true;
  context->legacy = nullptr;
  device.primary = nullptr;
  return Error::kSuccess;
}

Call::Call(Function function, Needs needs) : state_(driver_state()), function_(function) {
  // A child of fork() has no driver, and must not wait for a mutex that nobody will unlock.
  const std::int32_t process = state_.process.load();
  if (process != 0 && process != ::getpid()) {
    error_ = Error::kNotInitialized;
    return;
  }
  lock_ = std::unique_lock<FairMutex>(state_.mutex);
  error_ = enter(needs);
}

Error Call::enter(Needs needs) {
  const Error planned = state_.failures.on_call(function_);
  state_.called.notify_all();
  if (planned != Error::kSuccess) return planned;
  const FunctionInfo& function = info_of(function_);
  if (function.version > state_.settings.version) {
    violation(std::string(function.symbol) + " was called, and this driver has none");
    return Error::kNotSupported;
  }
  if (needs == Needs::kNothing) return Error::kSuccess;
  if (state_.process.load() == 0) return Error::kNotInitialized;
  if (needs == Needs::kDriver) return Error::kSuccess;
  if (current == nullptr) return Error::kInvalidContext;
  context_ = state_.contexts.find(current);
  if (!context_) return Error::kContextIsDestroyed;
  return context_->error;
}

Error Call::find(cuda::Stream handle, std::shared_ptr<StreamState>& stream) {
  if (handle == nullptr || handle == kNamedLegacyStream) {
    stream = context_->legacy;
    return Error::kSuccess;
  }
  stream = state_.streams.find(handle);
  if (stream) return stream->context->error;
  violation(state_.streams.was_given(handle) ? "the stream was destroyed before" : "the stream is none");
  return Error::kInvalidHandle;
}

Error Call::find(cuda::Event handle, std::shared_ptr<EventState>& event) {
  if (handle == nullptr) return Error::kInvalidHandle;
  event = state_.events.find(handle);
  if (!event) {
    violation(state_.events.was_given(handle) ? "the event was destroyed before" : "the event is none");
    return Error::kInvalidHandle;
  }
  if (event->context->destroyed) return Error::kContextIsDestroyed;
  if (event->shared && !event->shared->is_owner && event->shared->page().destroyed.load() != 0) {
    violation("the event was destroyed by its owner");
  }
  return event->context->error;
}

Error Call::find(cuda::Device device, DeviceState*& found) {
  if (device < 0 || static_cast<std::size_t>(device) >= state_.devices.size()) return Error::kInvalidDevice;
  found = &state_.devices[static_cast<std::size_t>(device)];
  return Error::kSuccess;
}

}  // namespace kvtier::sim
