// How much of the process's memory is in RAM, for tests of what is touched. Linux.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <fstream>

namespace kvtier {

inline std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::getpagesize());
}

}  // namespace kvtier
