// The functions of sim_control.h that command: settings, holds, steps, failures. Any thread.
#include "support/sim-cuda/sim_control.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "support/sim-cuda/control_text.h"
#include "support/sim-cuda/driver_state.h"

namespace {

using kvtier::cuda::Error;
using kvtier::cuda::Stream;
using kvtier::sim::driver_state;
using kvtier::sim::DriverState;
using kvtier::sim::FairMutex;
using kvtier::sim::give_text;
using kvtier::sim::Scheduler;
using kvtier::sim::StreamState;
using kvtier::sim::view;

using Lock = std::unique_lock<FairMutex>;

// Also one that was destroyed and still has work has no handle; it is reached by stepping over all.
std::shared_ptr<StreamState> find_stream(DriverState& state, Stream stream) {
  if (stream != nullptr) return state.streams.find(stream);
  const auto context = state.contexts.find(kvtier::sim::current_context());
  return context ? context->legacy : nullptr;
}

// Runs the stream's first operation to its end; false when it stops before, for it has to wait.
bool finish_one(Scheduler& scheduler, StreamState& stream) {
  for (;;) {
    switch (scheduler.step(stream)) {
      case Scheduler::Step::kNothing:
        return false;
      case Scheduler::Step::kPart:
        continue;
      case Scheduler::Step::kFinished:
        return true;
    }
  }
}

template <typename Condition>
bool wait_for(Lock& lock, std::condition_variable_any& changed, unsigned timeout_ms, Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    changed.wait_until(lock, deadline);
  }
  return true;
}

}  // namespace

KVTIER_SIM_CONTROL void kvtier_sim_reset(const char* settings) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.reset(settings);
  kvtier::sim::set_current_context(nullptr);
}

KVTIER_SIM_CONTROL void kvtier_sim_set(const char* settings) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const kvtier::sim::Settings before = state.settings;
  kvtier::sim::apply_settings(view(settings), state.settings);
  if (state.settings.visible != before.visible) {
    std::fprintf(stderr, "kvtier sim-cuda: the devices of a running machine cannot be changed: %s\n", settings);
    std::abort();
  }
  if (state.settings.seed != before.seed) state.scheduler.reseed();
  if (state.settings.hold != before.hold) state.scheduler.hold(state.settings.hold);
  state.apply();
}

KVTIER_SIM_CONTROL void kvtier_sim_hold() {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.scheduler.hold(true);
}

KVTIER_SIM_CONTROL void kvtier_sim_release() {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.scheduler.hold(false);
}

KVTIER_SIM_CONTROL void kvtier_sim_hold_stream(Stream stream) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  if (const auto found = find_stream(state, stream)) found->is_held = true;
}

KVTIER_SIM_CONTROL void kvtier_sim_release_stream(Stream stream) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  if (const auto found = find_stream(state, stream)) found->is_held = false;
  state.scheduler.notify();
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_step(Stream stream, std::size_t operations) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const auto found = find_stream(state, stream);
  std::size_t finished = 0;
  while (found && finished < operations && finish_one(state.scheduler, *found)) ++finished;
  return finished;
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_step_piece(Stream stream) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const auto found = find_stream(state, stream);
  return found && state.scheduler.step(*found) != Scheduler::Step::kNothing ? 1 : 0;
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_step_any(std::size_t operations) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  std::size_t finished = 0;
  while (finished < operations) {
    StreamState* stream = state.scheduler.pick(true);
    if (stream == nullptr) break;
    if (state.scheduler.step(*stream) == Scheduler::Step::kFinished) ++finished;
  }
  return finished;
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_streams(Stream* streams, std::size_t capacity) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  std::size_t count = 0;
  for (const auto& [number, stream] : state.streams.all()) {
    if (count < capacity) streams[count] = stream->handle;
    ++count;
  }
  return count;
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_pending(Stream stream) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const auto found = find_stream(state, stream);
  return found ? found->queue.size() : 0;
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_next(Stream stream, char* text, std::size_t capacity) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const auto found = find_stream(state, stream);
  return give_text(found && !found->queue.empty() ? found->queue.front()->text() : std::string(), text, capacity);
}

KVTIER_SIM_CONTROL int kvtier_sim_wait_for_work(std::size_t operations, unsigned timeout_ms) {
  DriverState& state = driver_state();
  Lock lock(state.mutex);
  return wait_for(lock, state.scheduler.changed(), timeout_ms, [&] { return state.scheduler.pending() >= operations; })
             ? 1
             : 0;
}

KVTIER_SIM_CONTROL int kvtier_sim_wait_for_calls(const char* function, std::uint64_t count, unsigned timeout_ms) {
  DriverState& state = driver_state();
  Lock lock(state.mutex);
  return wait_for(lock, state.called, timeout_ms, [&] { return state.failures.calls(view(function)) >= count; }) ? 1
                                                                                                                 : 0;
}

KVTIER_SIM_CONTROL void kvtier_sim_fail_call(const char* function, std::uint64_t nth, int code, std::uint64_t times) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.failures.add(kvtier::sim::CallFailure{
      .function = std::string(view(function)), .nth = nth, .times = times, .percent = 0, .code = code});
}

KVTIER_SIM_CONTROL void kvtier_sim_fail_nothing() {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.failures.forget_plans();
}

KVTIER_SIM_CONTROL void kvtier_sim_fail_work(const char* kind, std::uint64_t nth, int code) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.failures.add(kvtier::sim::WorkFailure{.kind = std::string(view(kind)), .nth = nth, .code = code});
}

KVTIER_SIM_CONTROL void kvtier_sim_lose_device(int ordinal, int code) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= state.devices.size()) return;
  kvtier::sim::DeviceState& device = state.devices[static_cast<std::size_t>(ordinal)];
  device.lost = static_cast<Error>(code);
  state.failures.note_injected();
  if (device.primary) state.scheduler.fail(*device.primary, device.lost);
}
