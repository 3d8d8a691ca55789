// What the processor offers, found at run time. Any thread.
#pragma once

#include <string>

namespace kvtier {

struct CpuFeatures {
  bool avx2 = false;
  bool neon = false;
};

// Only what the operating system lets this process use.
[[nodiscard]] const CpuFeatures& cpu_features() noexcept;

// Processors this process may run on; at least 1.
[[nodiscard]] unsigned cpu_count() noexcept;

// The processor as it names itself, "AMD EPYC 7763" for example; the architecture where it does not.
[[nodiscard]] std::string cpu_name();

}  // namespace kvtier
