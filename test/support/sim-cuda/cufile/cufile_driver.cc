// cuFile's calls about itself: open and close, properties, parameters, version. Any thread.
#include <string>

#include "support/sim-cuda/cufile/cufile_state.h"
#include "support/sim-cuda/functions.h"
#include "support/sim-cuda/sim_control.h"

#define KVTIER_SIM_CUFILE extern "C" KVTIER_SIM_EXPORT

namespace {

using namespace kvtier::sim::cufile;  // the whole file is about it

using Lock = std::lock_guard<std::mutex>;

// Parameters are read when the driver opens.
template <typename Key, typename Value>
Outcome set_parameter(const char* function, std::map<Key, Value>& values, Key key, Value value) {
  State& all = state();
  if (const int code = all.enter(function); code != 0) return outcome_of(code);
  if (all.opens > 0) {
    kvtier_sim_report((std::string(function) + ": the driver is open, and the parameter comes too late").c_str());
    return outcome_of(Error::kDriverAlreadyOpen);
  }
  values[key] = std::move(value);
  return {};
}

Outcome set_limit(const char* function) {
  const Lock guard(state().mutex);
  return outcome_of(state().enter(function));
}

Outcome close_driver(const char* function) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter(function); code != 0) return outcome_of(code);
  if (all.opens == 0) return outcome_of(Error::kDriverNotInitialized);
  if (--all.opens == 0 && (!all.files.empty() || !all.buffers.empty())) {
    kvtier_sim_report("cuFileDriverClose: files or buffers are still registered");
  }
  return {};
}

}  // namespace

KVTIER_SIM_CUFILE Outcome cuFileGetVersion(int* version) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileGetVersion"); code != 0) return outcome_of(code);
  if (version == nullptr) return outcome_of(Error::kInvalidValue);
  *version = all.version;
  return {};
}

KVTIER_SIM_CUFILE Outcome cuFileDriverOpen() {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileDriverOpen"); code != 0) return outcome_of(code);
  if (!all.has_driver && !all.allows_compat()) return outcome_of(Error::kDriverNotInitialized);
  ++all.opens;
  return {};
}

KVTIER_SIM_CUFILE Outcome cuFileDriverClose_v2() {
  return close_driver("cuFileDriverClose_v2");
}

KVTIER_SIM_CUFILE Outcome cuFileDriverClose() {
  return close_driver("cuFileDriverClose");
}

KVTIER_SIM_CUFILE long cuFileUseCount() {
  const Lock guard(state().mutex);
  return state().opens;
}

KVTIER_SIM_CUFILE Outcome cuFileDriverGetProperties(Properties* properties) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileDriverGetProperties"); code != 0) return outcome_of(code);
  if (properties == nullptr) return outcome_of(Error::kInvalidValue);
  if (all.opens == 0) return outcome_of(Error::kDriverNotInitialized);
  constexpr unsigned kNvme = 1U << 4U;
  *properties = Properties{.nvfs_major = all.has_driver ? 2U : 0U,
                           .nvfs_minor = all.has_driver ? 28U : 0U,
                           .poll_threshold_kb = 4,
                           .direct_io_kb_max = 16384,
                           .status_flags = all.has_driver ? kNvme : 0,
                           .control_flags = all.allows_compat() ? kvtier::cufile::kControlAllowCompatMode : 0,
                           .feature_flags = 0,
                           .device_cache_kb_max = 131072,
                           .buffer_cache_kb = 1024,
                           .pinned_memory_kb_max = 33554432,
                           .batch_io_max = 128,
                           .batch_io_timeout_ms = 5};
  return {};
}

KVTIER_SIM_CUFILE Outcome cuFileDriverSetPollMode(bool, std::size_t) {
  return set_limit("cuFileDriverSetPollMode");
}

KVTIER_SIM_CUFILE Outcome cuFileDriverSetMaxDirectIOSize(std::size_t) {
  return set_limit("cuFileDriverSetMaxDirectIOSize");
}

KVTIER_SIM_CUFILE Outcome cuFileDriverSetMaxCacheSize(std::size_t) {
  return set_limit("cuFileDriverSetMaxCacheSize");
}

KVTIER_SIM_CUFILE Outcome cuFileDriverSetMaxPinnedMemSize(std::size_t) {
  return set_limit("cuFileDriverSetMaxPinnedMemSize");
}

KVTIER_SIM_CUFILE Outcome cuFileSetParameterSizeT(int parameter, std::size_t value) {
  const Lock guard(state().mutex);
  return set_parameter("cuFileSetParameterSizeT", state().numbers, parameter, value);
}

KVTIER_SIM_CUFILE Outcome cuFileSetParameterBool(int parameter, bool value) {
  const Lock guard(state().mutex);
  return set_parameter("cuFileSetParameterBool", state().switches, parameter, value);
}

KVTIER_SIM_CUFILE Outcome cuFileGetParameterBool(int parameter, bool* value) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileGetParameterBool"); code != 0) return outcome_of(code);
  if (value == nullptr) return outcome_of(Error::kInvalidValue);
  const auto found = all.switches.find(parameter);
  *value = parameter == static_cast<int>(BoolParameter::kAllowCompatMode)
               ? all.allows_compat()
               : found != all.switches.end() && found->second;
  return {};
}

KVTIER_SIM_CUFILE Outcome cuFileSetParameterString(int parameter, const char* value) {
  const Lock guard(state().mutex);
  if (value == nullptr) return outcome_of(Error::kInvalidValue);
  return set_parameter("cuFileSetParameterString", state().texts, parameter, std::string(value));
}
