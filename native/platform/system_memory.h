// How much memory the machine has and how much a process can still take, containers' limits included. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace kvtier {

struct SystemMemory {
  std::uint64_t total_bytes = 0;
  // What can be taken without swapping: the kernel's estimate, or what the process's cgroup still allows when that is
  // less, which may be nothing. nullopt when the system does not say.
  std::optional<std::uint64_t> available_bytes;
};

[[nodiscard]] SystemMemory system_memory() noexcept;
#if defined(__linux__)
// The same with another root in front of /proc and /sys, for tests.
[[nodiscard]] SystemMemory system_memory_below(const std::string& root) noexcept;
#endif

// How many bytes a process may lock in memory (RLIMIT_MEMLOCK); UINT64_MAX when there is no limit.
[[nodiscard]] std::uint64_t memlock_limit_bytes() noexcept;

}  // namespace kvtier
