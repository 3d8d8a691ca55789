// Whether NVIDIA's cuFile library (GPUDirect Storage) can be loaded. It is looked for only where a device was found and
// is never initialised here: starting it writes to standard output and makes a log file. Any thread.
#pragma once

#include <string>

namespace kvtier {

struct CufileProbe {
  bool available = false;
  std::string reason;  // empty when available; else what is missing and what to do
};

[[nodiscard]] CufileProbe probe_cufile(bool has_device);

}  // namespace kvtier
