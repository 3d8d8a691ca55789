// Whether NVIDIA's driver can be used: it is opened at run time and asked, nothing is allocated on a device. Any
// thread; the first call in a process with a driver starts it, which may take a second.
#pragma once

#include <string>
#include <vector>

namespace kvtier {

struct CudaProbe {
  bool available = false;            // at least one device
  std::string reason;                // empty when available; else what is missing and what to do
  std::string driver_version;        // the CUDA version that the driver offers, "13.0"; empty when unknown
  std::vector<std::string> devices;  // names, by ordinal
};

// `library` is the driver's file; empty means libcuda.so.1.
[[nodiscard]] CudaProbe probe_cuda(const std::string& library);

// The driver's functions that the probe calls, declared by ourselves; nullptr where the library has none. The results
// are CUresult and the devices CUdevice, both int.
struct CudaProbeCalls {
  int (*init)(unsigned flags) = nullptr;                             // cuInit
  int (*driver_version)(int* version) = nullptr;                     // cuDriverGetVersion
  int (*device_count)(int* count) = nullptr;                         // cuDeviceGetCount
  int (*device_at)(int* device, int ordinal) = nullptr;              // cuDeviceGet
  int (*device_name)(char* name, int length, int device) = nullptr;  // cuDeviceGetName
};

// What probe_cuda() says of a driver that was opened. `library` is its name in messages.
[[nodiscard]] CudaProbe probe_cuda_driver(const CudaProbeCalls& calls, const std::string& library);

}  // namespace kvtier
