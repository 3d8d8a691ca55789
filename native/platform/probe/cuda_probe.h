// Whether NVIDIA's driver can be used, and what devices it has: what CudaDriver found, as facts for a person. Nothing
// is allocated on a device. Any thread; the first call in a process with a driver starts it, which may take a second.
#pragma once

#include <string>
#include <vector>

#include "platform/cuda/cuda_driver.h"

namespace kvtier {

struct CudaProbe {
  bool available = false;  // at least one device
  CudaState state = CudaState::kAbsent;
  std::string reason;               // empty when available; else what is missing and what to do
  std::string driver_version;       // the CUDA version that the driver offers, "13.0"; empty when unknown
  std::vector<CudaDevice> devices;  // by ordinal
};

// `library` is the driver's file; empty means libcuda.so.1.
[[nodiscard]] CudaProbe probe_cuda(const std::string& library);

}  // namespace kvtier
