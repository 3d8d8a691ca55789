// How much memory the machine has and how much a process can still take, containers' limits included. Any thread.
#pragma once

#include <cstdint>

namespace kvtier {

struct SystemMemory {
  std::uint64_t total_bytes = 0;
  // What can be taken without swapping: the kernel's estimate, or what the process's cgroup still allows when that is
  // less. 0 when the system does not say.
  std::uint64_t available_bytes = 0;
};

[[nodiscard]] SystemMemory system_memory() noexcept;

// How many bytes a process may lock in memory (RLIMIT_MEMLOCK); UINT64_MAX when there is no limit.
[[nodiscard]] std::uint64_t memlock_limit_bytes() noexcept;

}  // namespace kvtier
