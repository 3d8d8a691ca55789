#include "platform/probe/cufile_probe.h"

#include <fcntl.h>

#include <cerrno>

#include "platform/cufile/verify_direct.h"
#include "platform/file_descriptor.h"

namespace kvtier {
namespace {

// One transfer each way between the directory and the first GPU that cuFile reaches.
Status try_in(const CufileDriver& driver, const std::string& directory) {
  for (const CudaDevice& device : driver.cuda().devices()) {
    if (!driver.check_device(device)) continue;
    const auto context = CudaContext::retain(driver.cuda(), device.ordinal);
    if (!context) return context.status();
    const FileDescriptor folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.is_open()) {
      return Status::from_errno(errno, "direct transfers were not tried in " + directory);
    }
    return verify_direct(driver, context.value(), folder.get(), directory);
  }
  return Status(Code::kUnsupported, "no GPU lets cuFile at its memory");
}

}  // namespace

CufileProbe probe_cufile(const std::string& cuda_library, const std::string& library, const std::string& directory) {
  const CufileDriver& driver = CufileDriver::get(cuda_library, library);
  CufileProbe probe;
  probe.state = driver.state();
  probe.available = driver.is_ready();
  probe.reason = driver.reason();
  if (!probe.available || directory.empty()) return probe;
  if (const Status status = try_in(driver, directory); !status) {
    probe.available = false;
    probe.reason = status.message();
  }
  return probe;
}

}  // namespace kvtier
