// The functions of sim_control.h that tell what was seen and reach device memory. Any thread.
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "support/sim-cuda/control_text.h"
#include "support/sim-cuda/driver_state.h"
#include "support/sim-cuda/sim_control.h"

namespace {

using kvtier::cuda::DevicePtr;
using kvtier::cuda::Error;
using kvtier::sim::driver_state;
using kvtier::sim::DriverState;
using kvtier::sim::give_text;
using kvtier::sim::LaunchOperation;
using kvtier::sim::Memory;
using kvtier::sim::Region;
using kvtier::sim::view;

using Lock = std::unique_lock<kvtier::sim::FairMutex>;

std::shared_ptr<Region> device_region(DriverState& state, DevicePtr pointer, std::size_t bytes, std::size_t& offset) {
  const Memory::Found found = state.memory.find(pointer, bytes);
  if (!found.region || found.crosses || found.region->gone || !found.region->is_device()) return nullptr;
  offset = found.offset;
  return found.region;
}

// What a test run leaves behind goes to the report, so that a harness sees it, and sees by its absence a kill.
__attribute__((destructor)) void report_end() {
  DriverState& state = driver_state();
  if (state.process.load() != ::getpid()) return;
  const Lock lock(state.mutex);
  state.journal.note("end: " + std::to_string(state.journal.violations().size()) + " violations, " +
                     std::to_string(state.memory.count(Region::Kind::kDevice)) + " allocations, " +
                     std::to_string(state.memory.count(Region::Kind::kPinned)) + " registrations, " +
                     std::to_string(state.streams.size()) + " streams, " + std::to_string(state.events.size()) +
                     " events, " + std::to_string(state.scheduler.pending()) + " operations queued");
}

}  // namespace

KVTIER_SIM_CONTROL std::uint64_t kvtier_sim_calls(const char* function) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  return state.failures.calls(view(function));
}

KVTIER_SIM_CONTROL std::uint64_t kvtier_sim_count(const char* what) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const std::string_view name = view(what);
  if (name == "allocations") return state.memory.count(Region::Kind::kDevice);
  if (name == "registrations") return state.memory.count(Region::Kind::kPinned);
  if (name == "imports") return state.memory.count(Region::Kind::kImported);
  if (name == "streams") return state.streams.size();
  if (name == "events") return state.events.size();
  if (name == "modules") return state.modules.size();
  if (name == "contexts") return state.contexts.size();
  if (name == "pageable_copies") return state.journal.pageable_copies;
  if (name == "batch_descriptors") return state.journal.batch_descriptors;
  if (name == "failures") return state.failures.injected();
  if (name == "finished_work") return state.journal.finished_work;
  if (name == "allocated_bytes") {
    std::uint64_t bytes = 0;
    for (std::size_t device = 0; device < state.devices.size(); ++device) {
      bytes += state.memory.used_bytes(static_cast<int>(device));
    }
    return bytes;
  }
  return 0;
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_violations() {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  return state.journal.violations().size();
}

KVTIER_SIM_CONTROL std::size_t kvtier_sim_violation(std::size_t index, char* text, std::size_t capacity) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const std::vector<std::string>& all = state.journal.violations();
  return give_text(index < all.size() ? all[index] : std::string(), text, capacity);
}

KVTIER_SIM_CONTROL void kvtier_sim_clear_violations() {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.journal.clear_violations();
}

KVTIER_SIM_CONTROL int kvtier_sim_read(DevicePtr source, void* target, std::size_t bytes) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  std::size_t offset = 0;
  const auto region = device_region(state, source, bytes, offset);
  if (region) std::memcpy(target, region->alias + offset, bytes);
  return region ? 1 : 0;
}

KVTIER_SIM_CONTROL int kvtier_sim_write(DevicePtr target, const void* source, std::size_t bytes) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  std::size_t offset = 0;
  const auto region = device_region(state, target, bytes, offset);
  if (region) std::memcpy(region->alias + offset, source, bytes);
  return region ? 1 : 0;
}

KVTIER_SIM_CONTROL void kvtier_sim_set_ipc_capable(DevicePtr pointer, int capable) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  std::size_t offset = 0;
  if (const auto region = device_region(state, pointer, 1, offset)) region->ipc_capable = capable != 0;
}

KVTIER_SIM_CONTROL void* kvtier_sim_pin(DevicePtr pointer, std::size_t bytes, const char* holder) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  std::size_t offset = 0;
  const auto region = device_region(state, pointer, bytes, offset);
  if (!region) return nullptr;
  ++region->pins;
  region->holder = view(holder);
  return region->alias + offset;
}

KVTIER_SIM_CONTROL void kvtier_sim_unpin(DevicePtr pointer, const char* holder) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const Memory::Found found = state.memory.find(pointer, 1);
  if (found.region && found.region->pins > 0) {
    --found.region->pins;
  } else {
    state.journal.violation(std::string(view(holder)) + ": gives back device memory that it does not hold");
  }
}

KVTIER_SIM_CONTROL int kvtier_sim_has_context() {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const auto context = state.contexts.find(kvtier::sim::current_context());
  return context && context->error == Error::kSuccess ? 1 : 0;
}

KVTIER_SIM_CONTROL void kvtier_sim_report(const char* text) {
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  state.journal.violation(std::string(view(text)));
}

KVTIER_SIM_CONTROL void* kvtier_sim_alias(std::uint64_t pointer, std::size_t bytes) {
  // A host form runs with the mutex held.
  if (LaunchOperation* launch = LaunchOperation::current(); launch != nullptr) return launch->alias(pointer, bytes);
  DriverState& state = driver_state();
  const Lock lock(state.mutex);
  const Memory::Found found = state.memory.find(pointer, bytes);
  if (found.region && !found.crosses && !found.region->gone) return found.region->alias + found.offset;
  state.journal.violation("kvtier_sim_alias: " + std::to_string(bytes) + " bytes that are not in one live region");
  return nullptr;
}

KVTIER_SIM_CONTROL void kvtier_sim_misaligned(std::uint64_t pointer, std::size_t unit) {
  const std::string text = "a kernel moves " + std::to_string(unit) + " bytes at once at an address that is " +
                           std::to_string(pointer % unit) + " bytes beyond a multiple of them";
  LaunchOperation* const launch = LaunchOperation::current();
  if (launch == nullptr) {
    kvtier_sim_report(text.c_str());
    return;
  }
  // The mutex is held.
  driver_state().journal.violation(text);
  launch->fault(Error::kMisalignedAddress);
}
