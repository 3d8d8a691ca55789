#include "platform/system_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "platform/text_file.h"

#if defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

namespace kvtier {
namespace {

#if defined(__linux__)

// What the control group in `directory` still allows; nullopt when it sets no limit. Page cache that the kernel would
// give back first does not count as used.
std::optional<std::uint64_t> cgroup_room(const std::string& directory, const char* limit_name, const char* usage_name,
                                         const char* reclaimable_name) {
  const auto limit_text = read_text_file(directory + "/" + limit_name);
  const auto usage_text = read_text_file(directory + "/" + usage_name);
  if (!limit_text || !usage_text) return std::nullopt;
  const auto limit = number_after(*limit_text, "");  // "max" is no number
  const auto usage = number_after(*usage_text, "");
  if (!limit || !usage) return std::nullopt;
  const auto statistics = read_text_file(directory + "/memory.stat");
  const std::uint64_t reclaimable = statistics ? number_after(*statistics, reclaimable_name).value_or(0) : 0;
  const std::uint64_t held = *usage - std::min(*usage, reclaimable);
  return *limit - std::min(*limit, held);
}

// The path after `prefix` in /proc/self/cgroup, without a slash at its end; nullopt when no line has the prefix.
std::optional<std::string> cgroup_path(std::string_view membership, std::string_view prefix) {
  for (std::size_t line = 0; line < membership.size();) {
    const std::size_t end = std::min(membership.find('\n', line), membership.size());
    const std::string_view text = membership.substr(line, end - line);
    line = end + 1;
    const std::size_t at = text.find(prefix);
    if (at == std::string_view::npos) continue;
    std::string path(text.substr(at + prefix.size()));
    while (path.ends_with('/')) path.pop_back();
    return path;
  }
  return std::nullopt;
}

// The less of the two, where both are known.
std::optional<std::uint64_t> less_of(std::optional<std::uint64_t> a, std::optional<std::uint64_t> b) noexcept {
  return a && b ? std::min(*a, *b) : (a ? a : b);
}

// The least room of the process's control group and the groups above it; nullopt when none sets a limit.
std::optional<std::uint64_t> cgroups_room(const std::string& root) {
  std::optional<std::uint64_t> room;
  const auto membership = read_text_file(root + "/proc/self/cgroup");
  if (!membership) return room;
  const auto walk = [&](std::string path, const char* tree, const char* limit, const char* usage,
                        const char* reclaimable) {
    for (;;) {
      room = less_of(room, cgroup_room(root + tree + path, limit, usage, reclaimable));
      if (path.empty()) return;
      path.erase(std::min(path.rfind('/'), path.size()));
    }
  };
  if (const auto path = cgroup_path(*membership, "0::"); path) {
    walk(*path, "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file ");
  }
  if (const auto path = cgroup_path(*membership, ":memory:"); path) {
    walk(*path, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
  }
  return room;
}

#endif

}  // namespace

#if defined(__linux__)
SystemMemory system_memory_below(const std::string& root) noexcept {
  SystemMemory memory;
  if (const auto text = read_text_file(root + "/proc/meminfo")) {
    memory.total_bytes = number_after(*text, "MemTotal:").value_or(0) * 1024;
    if (const auto free = number_after(*text, "MemAvailable:")) memory.available_bytes = *free * 1024;
  }
  memory.available_bytes = less_of(memory.available_bytes, cgroups_room(root));
  return memory;
}
#endif

SystemMemory system_memory() noexcept {
#if defined(__linux__)
  return system_memory_below("");
#else
  SystemMemory memory;
#if defined(__APPLE__)
  std::size_t length = sizeof memory.total_bytes;
  if (::sysctlbyname("hw.memsize", &memory.total_bytes, &length, nullptr, 0) != 0) memory.total_bytes = 0;
  vm_statistics64_data_t statistics{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (::host_statistics64(::mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&statistics), &count) ==
      KERN_SUCCESS) {
    memory.available_bytes = (std::uint64_t{statistics.free_count} + statistics.inactive_count) *
                             static_cast<std::uint64_t>(::getpagesize());
  }
#endif
  return memory;
#endif
}

std::uint64_t memlock_limit_bytes() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<std::uint64_t>::max()
                                         : static_cast<std::uint64_t>(limit.rlim_cur);
}

}  // namespace kvtier
