// The clocks of the benchmark limits: wall time, and processor time of a thread or of the whole process. Any thread.
#pragma once

#include <ctime>

namespace limits {

[[nodiscard]] inline double seconds_of(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

[[nodiscard]] inline double wall_seconds() noexcept {
  return seconds_of(CLOCK_MONOTONIC);
}
[[nodiscard]] inline double thread_cpu_seconds() noexcept {
  return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}
[[nodiscard]] inline double process_cpu_seconds() noexcept {
  return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

// What a limit took: from the first thread's start to the last one's end, and the processor time of all of them.
struct Elapsed {
  double wall_seconds = 0;
  double cpu_seconds = 0;
};

}  // namespace limits
