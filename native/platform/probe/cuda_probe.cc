#include "platform/probe/cuda_probe.h"

namespace kvtier {

CudaProbe probe_cuda(const std::string& library) {
  const CudaDriver& driver = CudaDriver::get(library);
  CudaProbe probe;
  probe.available = driver.is_ready();
  probe.state = driver.state();
  probe.reason = driver.reason();
  if (driver.version() > 0) probe.driver_version = cuda_version_text(driver.version());
  probe.devices = driver.devices();
  return probe;
}

}  // namespace kvtier
