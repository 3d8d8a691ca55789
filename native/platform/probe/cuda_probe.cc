#include "platform/probe/cuda_probe.h"

#include <string_view>
#include <utility>

#include "platform/dynamic_library.h"

namespace kvtier {
namespace {

// 1000 * major + 10 * minor. The first version with cuGetProcAddress, by which every other function is found.
constexpr int kOldestVersion = 11030;
// More than any machine has: a larger count is nonsense.
constexpr int kMostDevices = 1024;

constexpr const char* kDefaultLibrary = "libcuda.so.1";

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// True when the loader's message says that the file itself, not something that it needs, is missing.
bool says_missing(std::string_view message, const std::string& library) {
  return message.find(library + ": ") != std::string_view::npos &&
         message.find("No such file") != std::string_view::npos;
}

// What a failed cuInit means to the person who runs the machine.
std::string init_failure(int result, const std::string& library) {
  const std::string failed = "NVIDIA's driver did not start (cuInit returned " + std::to_string(result) + "): ";
  switch (result) {
    case 34:  // CUDA_ERROR_STUB_LIBRARY
      return failed + library + " is the toolkit's stub for linking; take its directory out of LD_LIBRARY_PATH";
    case 46:  // CUDA_ERROR_DEVICE_UNAVAILABLE
      return failed + "the device is in use by another process in exclusive mode; see nvidia-smi";
    case 100:  // CUDA_ERROR_NO_DEVICE
      return failed + "it sees no device; check nvidia-smi and CUDA_VISIBLE_DEVICES, and hand the GPU to the container";
    case 802:  // CUDA_ERROR_SYSTEM_NOT_READY
      return failed + "the system is not ready; start nvidia-fabricmanager";
    case 803:  // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
      return failed + library + " and the kernel module differ in version; restart the machine or reinstall the driver";
    case 804:  // CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
      return failed +
             "this device does not take the forward-compatibility library; take the compat directory out of "
             "LD_LIBRARY_PATH";
    case 999:  // CUDA_ERROR_UNKNOWN
      return failed + "unknown error; check that the nvidia_uvm kernel module is loaded, and see dmesg";
    default:
      return failed + "look the number up in CUDA's documentation (CUresult), and see dmesg";
  }
}

std::string call_failure(const char* function, int result, const std::string& library) {
  return std::string(function) + " of " + library + " returned " + std::to_string(result) +
         ": the driver does not work; reinstall it, and see dmesg";
}

// The reason why devices cannot be listed; empty after success.
std::string list_devices(const CudaProbeCalls& calls, const std::string& library, std::vector<std::string>& names) {
  int count = 0;
  if (const int result = calls.device_count(&count); result != 0)
    return call_failure("cuDeviceGetCount", result, library);
  if (count <= 0) {
    return "NVIDIA's driver sees no device; check nvidia-smi and CUDA_VISIBLE_DEVICES, and hand the GPU to the "
           "container";
  }
  if (count > kMostDevices) {
    return library + " counts " + std::to_string(count) + " devices: the driver does not work; reinstall it";
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    int device = 0;
    char name[256] = "";
    if (const int result = calls.device_at(&device, ordinal); result != 0) {
      return call_failure("cuDeviceGet", result, library);
    }
    if (const int result = calls.device_name(name, sizeof name - 1, device); result != 0) {
      return call_failure("cuDeviceGetName", result, library);
    }
    name[sizeof name - 1] = '\0';
    names.emplace_back(name);
  }
  return {};
}

}  // namespace

CudaProbe probe_cuda(const std::string& library_or_default) {
  const std::string library = library_or_default.empty() ? kDefaultLibrary : library_or_default;
  const auto opened = DynamicLibrary::open(library, DynamicLibrary::Lifetime::kProcess);
  if (!opened) {
    const std::string& message = opened.status().message();
    CudaProbe probe;
    probe.reason = says_missing(message, library)
                       ? library +
                             " was not found: to use a GPU, install NVIDIA's driver, or start the container with "
                             "access to the GPU"
                       : library + " cannot be loaded (" + message + "): reinstall NVIDIA's driver";
    return probe;
  }
  const DynamicLibrary& driver = opened.value();
  CudaProbeCalls calls;
  calls.init = driver.function<int(unsigned)>("cuInit");
  calls.driver_version = driver.function<int(int*)>("cuDriverGetVersion");
  calls.device_count = driver.function<int(int*)>("cuDeviceGetCount");
  calls.device_at = driver.function<int(int*, int)>("cuDeviceGet");
  calls.device_name = driver.function<int(char*, int, int)>("cuDeviceGetName");
  return probe_cuda_driver(calls, library);
}

CudaProbe probe_cuda_driver(const CudaProbeCalls& calls, const std::string& library) {
  CudaProbe probe;
  if (calls.init == nullptr || calls.driver_version == nullptr || calls.device_count == nullptr ||
      calls.device_at == nullptr || calls.device_name == nullptr) {
    probe.reason = library + " lacks functions that every CUDA driver has: it is no CUDA driver; reinstall the driver";
    return probe;
  }
  // The version is known before the driver has started, and one that is too old need not be started.
  int version = 0;
  if (const int result = calls.driver_version(&version); result != 0) {
    probe.reason = call_failure("cuDriverGetVersion", result, library);
    return probe;
  }
  probe.driver_version = version_text(version);
  if (version < kOldestVersion) {
    probe.reason = "NVIDIA's driver is too old: it offers CUDA " + probe.driver_version + ", " +
                   version_text(kOldestVersion) + " (driver 465) or later is needed; update the driver";
    return probe;
  }
  if (const int result = calls.init(0); result != 0) {
    probe.reason = init_failure(result, library);
    return probe;
  }
  std::vector<std::string> names;
  probe.reason = list_devices(calls, library, names);
  if (!probe.reason.empty()) return probe;
  probe.devices = std::move(names);
  probe.available = true;
  return probe;
}

}  // namespace kvtier
