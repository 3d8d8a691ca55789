#include "support/sim-cuda/settings.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>

namespace kvtier::sim {
namespace {

[[noreturn]] void refuse(std::string_view setting) {
  std::fprintf(stderr, "kvtier sim-cuda: the setting '%.*s' is not one; see test/support/sim-cuda/README.md\n",
               static_cast<int>(setting.size()), setting.data());
  std::abort();
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(separators);
    if (end != 0) parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

// A number with an optional K, M or G behind it.
std::uint64_t number(std::string_view text, std::string_view setting) {
  if (text.empty() || text.front() < '0' || text.front() > '9') refuse(setting);
  std::uint64_t value = 0;
  std::size_t at = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + static_cast<std::uint64_t>(text[at] - '0');
  }
  const std::string_view unit = text.substr(at);
  if (unit.empty()) return value;
  if (unit == "K") return value << 10U;
  if (unit == "M") return value << 20U;
  if (unit == "G") return value << 30U;
  refuse(setting);
}

std::string name_or_any(std::string_view text) {
  return text == "*" ? std::string() : std::string(text);
}

CallFailure call_failure(std::string_view value, std::string_view setting) {
  const std::vector<std::string_view> parts = split(value, ":");
  if (parts.size() < 3 || parts.size() > 4) refuse(setting);
  CallFailure failure;
  failure.function = name_or_any(parts[0]);
  if (parts[1].ends_with('%')) {
    failure.percent = static_cast<unsigned>(number(parts[1].substr(0, parts[1].size() - 1), setting));
  } else {
    failure.nth = number(parts[1], setting);
  }
  failure.code = static_cast<int>(number(parts[2], setting));
  if (parts.size() == 4) failure.times = parts[3] == "*" ? 0 : number(parts[3], setting);
  return failure;
}

WorkFailure work_failure(std::string_view value, std::string_view setting) {
  const std::vector<std::string_view> parts = split(value, ":");
  if (parts.size() != 3) refuse(setting);
  return WorkFailure{.kind = name_or_any(parts[0]),
                     .nth = number(parts[1], setting),
                     .code = static_cast<int>(number(parts[2], setting))};
}

using Apply = std::function<void(Settings&, std::string_view value, std::string_view setting)>;

Apply flag(bool Settings::*member) {
  return [member](Settings& settings, std::string_view value, std::string_view setting) {
    if (value != "0" && value != "1") refuse(setting);
    settings.*member = value == "1";
  };
}

template <typename Value>
Apply plain(Value Settings::*member) {
  return [member](Settings& settings, std::string_view value, std::string_view setting) {
    settings.*member = static_cast<Value>(number(value, setting));
  };
}

void set_devices(Settings& settings, std::string_view value, std::string_view setting) {
  settings.visible.clear();
  const int count = static_cast<int>(number(value, setting));
  for (int ordinal = 0; ordinal < count; ++ordinal) settings.visible.push_back(ordinal);
}

void set_visible(Settings& settings, std::string_view value, std::string_view setting) {
  settings.visible.clear();
  for (const std::string_view one : split(value, ",")) {
    settings.visible.push_back(static_cast<int>(number(one, setting)));
  }
}

void set_capability(Settings& settings, std::string_view value, std::string_view setting) {
  const std::vector<std::string_view> parts = split(value, ".");
  if (parts.size() != 2) refuse(setting);
  settings.capability_major = static_cast<int>(number(parts[0], setting));
  settings.capability_minor = static_cast<int>(number(parts[1], setting));
}

void set_any_order(Settings& settings, std::string_view value, std::string_view setting) {
  if (value == "random") {
    settings.any_order = AnyOrder::kRandom;
  } else if (value == "early") {
    settings.any_order = AnyOrder::kEarly;
  } else if (value == "late") {
    settings.any_order = AnyOrder::kLate;
  } else {
    refuse(setting);
  }
}

const std::map<std::string_view, Apply>& appliers() {
  static const std::map<std::string_view, Apply> all = {
      {"version", plain(&Settings::version)},
      {"devices", set_devices},
      {"visible", set_visible},
      {"memory", plain(&Settings::memory_bytes)},
      {"pinned", plain(&Settings::pinned_bytes)},
      {"capability", set_capability},
      {"seed", plain(&Settings::seed)},
      {"lateness_us", plain(&Settings::lateness_us)},
      {"any_order", set_any_order},
      {"batch_limit", plain(&Settings::batch_limit)},
      {"max_pitch", plain(&Settings::max_pitch)},
      {"host_pointers", flag(&Settings::host_pointers)},
      {"stream_values", flag(&Settings::stream_values)},
      {"peers", flag(&Settings::peers)},
      {"reuse", flag(&Settings::reuse)},
      {"rdma", flag(&Settings::rdma)},
      {"hold", flag(&Settings::hold)},
      {"abort", flag(&Settings::abort)},
      {"fail", [](Settings& settings, std::string_view value,
                  std::string_view setting) { settings.call_failures.push_back(call_failure(value, setting)); }},
      {"fail_work", [](Settings& settings, std::string_view value,
                       std::string_view setting) { settings.work_failures.push_back(work_failure(value, setting)); }},
      {"report", [](Settings& settings, std::string_view value, std::string_view) { settings.report = value; }},
  };
  return all;
}

}  // namespace

void apply_settings(std::string_view text, Settings& settings) {
  for (const std::string_view setting : split(text, " ;\n")) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string_view::npos) refuse(setting);
    const auto found = appliers().find(setting.substr(0, equals));
    if (found == appliers().end()) refuse(setting);
    found->second(settings, setting.substr(equals + 1), setting);
  }
}

}  // namespace kvtier::sim
