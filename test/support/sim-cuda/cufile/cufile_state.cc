#include "support/sim-cuda/cufile/cufile_state.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "support/sim-cuda/cufile/sim_cufile_control.h"
#include "support/sim-cuda/functions.h"

namespace kvtier::sim::cufile {
namespace {

[[noreturn]] void refuse(std::string_view setting) {
  std::fprintf(stderr, "kvtier sim-cufile: the setting '%.*s' is not one; see test/support/sim-cuda/README.md\n",
               static_cast<int>(setting.size()), setting.data());
  std::abort();
}

// The part before the separator, which is taken off the text together with it.
std::string_view take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

std::uint64_t number(std::string_view text, std::string_view setting) {
  std::uint64_t value = 0;
  if (text.empty()) refuse(setting);
  for (const char digit : text) {
    if (digit < '0' || digit > '9') refuse(setting);
    value = value * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  return value;
}

}  // namespace

State& state() {
  static State& one = *[] {
    auto* made = new State;
    made->reset(nullptr);
    return made;
  }();
  return one;
}

void State::apply(std::string_view settings) {
  while (!settings.empty()) {
    const std::string_view setting = take(settings, ' ');
    std::string_view value = setting;
    const std::string_view name = take(value, '=');
    if (setting.empty()) continue;
    if (name == "version") {
      version = static_cast<int>(number(value, setting));
    } else if (name == "driver") {
      has_driver = number(value, setting) != 0;
    } else if (name == "compat") {
      compat = number(value, setting) != 0;
    } else if (name == "forced") {
      forced = number(value, setting) != 0;
    } else if (name == "short") {
      const std::uint64_t nth = number(take(value, ':'), setting);
      shortenings.push_back(Shortening{nth, number(value, setting), 0});
    } else if (name == "fail") {
      Failure failure;
      failure.function = take(value, ':');
      failure.nth = number(take(value, ':'), setting);
      failure.code = static_cast<int>(number(take(value, ':'), setting));
      if (!value.empty()) failure.times = value == "*" ? 0 : number(value, setting);
      failures.push_back(std::move(failure));
    } else {
      refuse(setting);
    }
  }
}

void State::reset(const char* settings) {
  version = 1150;
  has_driver = true;
  compat = false;
  forced = false;
  opens = 0;
  files.clear();
  buffers.clear();
  numbers.clear();
  switches.clear();
  texts.clear();
  calls.clear();
  counts.clear();
  failures.clear();
  shortenings.clear();
  if (const char* environment = std::getenv("KVTIER_SIM_CUFILE"); environment != nullptr) apply(environment);
  if (settings != nullptr) apply(settings);
}

int State::enter(std::string_view function) {
  ++calls[std::string(function)];
  int code = 0;
  for (Failure& failure : failures) {
    if (!failure.function.empty() && failure.function != function) continue;
    ++failure.seen;
    const bool hit = failure.seen >= failure.nth && (failure.times == 0 || failure.seen - failure.nth < failure.times);
    if (hit && code == 0) code = failure.code;
  }
  return code;
}

bool State::allows_compat() const {
  const auto set = switches.find(static_cast<int>(BoolParameter::kAllowCompatMode));
  return forced || (set != switches.end() ? set->second : compat);
}

std::size_t State::limit(std::size_t bytes) {
  for (Shortening& shortening : shortenings) {
    if (++shortening.seen == shortening.nth) bytes = std::min(bytes, shortening.bytes);
  }
  return bytes;
}

}  // namespace kvtier::sim::cufile

using kvtier::sim::cufile::state;
using kvtier::sim::cufile::State;

extern "C" KVTIER_SIM_EXPORT void kvtier_sim_cufile_reset(const char* settings) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  all.reset(settings);
}

extern "C" KVTIER_SIM_EXPORT void kvtier_sim_cufile_fail_call(const char* function, std::uint64_t nth, int code,
                                                              std::uint64_t times) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  all.failures.push_back({.function = function != nullptr ? function : "", .nth = nth, .times = times, .code = code});
}

extern "C" KVTIER_SIM_EXPORT void kvtier_sim_cufile_shorten(std::uint64_t nth, std::size_t bytes) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  all.shortenings.push_back({.nth = nth, .bytes = bytes});
}

extern "C" KVTIER_SIM_EXPORT std::uint64_t kvtier_sim_cufile_calls(const char* function) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  std::uint64_t count = 0;
  for (const auto& [name, calls] : all.calls) {
    if (function == nullptr || name == function) count += calls;
  }
  return count;
}

extern "C" KVTIER_SIM_EXPORT std::uint64_t kvtier_sim_cufile_count(const char* what) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  const std::string_view name(what);
  if (name == "handles") return all.files.size();
  if (name == "buffers") return all.buffers.size();
  const auto found = all.counts.find(name);
  return found == all.counts.end() ? 0 : found->second;
}
