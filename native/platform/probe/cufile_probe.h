// Whether blocks can go directly between files and a GPU: what CufileDriver found and, for a directory, what a transfer
// there showed, as facts for a person. Any thread that may wait for the disk; the first call in a process with a GPU
// starts cuFile, which may take a second.
#pragma once

#include <string>

#include "platform/cufile/cufile_driver.h"

namespace kvtier {

struct CufileProbe {
  bool available = false;
  CufileState state = CufileState::kNoGpu;  // kReady also where the transfer in the directory failed
  std::string reason;                       // empty when available; else what is missing and what to do
};

// The names are those of CufileDriver::get(). With a directory one transfer each way is tried in it, with the first GPU
// that can: verify_direct(). Empty: the library is started, and nothing is tried.
[[nodiscard]] CufileProbe probe_cufile(const std::string& cuda_library, const std::string& library,
                                       const std::string& directory);

}  // namespace kvtier
