#include "platform/cuda/cuda_driver.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "platform/cuda/cuda_error.h"
#include "platform/cuda/cuda_table.h"

namespace kvtier {
namespace {

using cuda::Error;

constexpr const char* kDefaultLibrary = "libcuda.so.1";
// More than any machine has: a larger count is nonsense.
constexpr int kMostDevices = 1024;

// What a failed cuInit means to the person who runs the machine.
struct InitFailure {
  CudaState state;
  std::string advice;
};

constexpr const char* kNoDeviceAdvice =
    "it sees no device; check nvidia-smi and CUDA_VISIBLE_DEVICES, and hand the GPU to the container";

InitFailure init_failure(Error error, const std::string& library) {
  // Most numbers are no answers of cuInit, and a driver may have others: what they have in common is the last line.
  if (error == Error::kStubLibrary) {
    return {CudaState::kStub,
            library + " is the toolkit's stub for linking; take its directory out of LD_LIBRARY_PATH"};
  }
  if (error == Error::kNoDevice) return {CudaState::kNoDevice, kNoDeviceAdvice};
  if (error == Error::kInvalidDevice) {
    return {CudaState::kNoDevice, "CUDA_VISIBLE_DEVICES names a device that is not there; see nvidia-smi -L"};
  }
  if (error == Error::kDeviceUnavailable) {
    return {CudaState::kBusy, "the device is in use by another process in exclusive mode; see nvidia-smi"};
  }
  if (error == Error::kDeviceNotLicensed) {
    return {CudaState::kNotReady, "the virtual GPU has no licence; see nvidia-smi -q and the licence server"};
  }
  if (error == Error::kSystemNotReady) {
    return {CudaState::kNotReady, "the system is not ready; start nvidia-fabricmanager"};
  }
  if (error >= Error::kMpsConnectionFailed && error <= Error::kMpsClientTerminated) {
    return {CudaState::kNotReady,
            "the MPS server does not take this process; see nvidia-cuda-mps-control and CUDA_MPS_PIPE_DIRECTORY"};
  }
  if (error == Error::kSystemDriverMismatch) {
    return {CudaState::kMismatch,
            library + " and the kernel module differ in version; restart the machine or reinstall the driver"};
  }
  if (error == Error::kCompatNotSupportedOnDevice) {
    return {CudaState::kIncompatible,
            "this device does not take the forward-compatibility library; take the compat directory out of "
            "LD_LIBRARY_PATH"};
  }
  if (error == Error::kCallRequiresNewerDriver) {
    return {CudaState::kTooOld, "it is too old for this program; update the driver"};
  }
  if (error == Error::kUnknown) {
    return {CudaState::kBroken, "unknown error; check that the nvidia_uvm kernel module is loaded, and see dmesg"};
  }
  return {CudaState::kBroken, "look the number up in CUDA's documentation (CUresult), and see dmesg"};
}

// Empty for one of zeros, which no device has.
std::string uuid_text(const cuda::Uuid& uuid) {
  std::string text;
  bool any = false;
  for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(uuid.bytes[i]));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits;
    any = any || uuid.bytes[i] != 0;
  }
  return any ? text : std::string();
}

std::string pci_address(const cuda::Functions& functions, cuda::Device device) {
  int domain = 0;
  int bus = 0;
  int slot = 0;
  const auto ask = [&](int& value, cuda::DeviceAttribute attribute) {
    return functions.device_get_attribute(&value, attribute, device) == Error::kSuccess;
  };
  if (!ask(domain, cuda::DeviceAttribute::kPciDomainId) || !ask(bus, cuda::DeviceAttribute::kPciBusId) ||
      !ask(slot, cuda::DeviceAttribute::kPciDeviceId)) {
    return {};
  }
  char text[32];
  // What CUDA calls a device in PCI's sense is its slot; a GPU is always function 0 of it.
  std::snprintf(text, sizeof text, "%04x:%02x:%02x.0", static_cast<unsigned>(domain), static_cast<unsigned>(bus),
                static_cast<unsigned>(slot));
  return text;
}

CudaTable load(const std::string& library) {
#if defined(KVTIER_CUDA_API_RUNTIME)
  if (library.empty()) return load_cuda_runtime();
#endif
  return load_cuda_library(library.empty() ? kDefaultLibrary : library);
}

struct Entry {
  std::once_flag once;
  std::unique_ptr<const CudaDriver> driver;
};

struct Registry {
  std::mutex mutex;  // guards `entries`, not what is in them: starting a driver takes long
  std::map<std::string, Entry> entries;
};

}  // namespace

const char* name_of(CudaState state) noexcept {
  switch (state) {
#define KVTIER_CUDA_STATE_CASE(name, text) \
  case CudaState::name:                    \
    return text;
    KVTIER_CUDA_STATES(KVTIER_CUDA_STATE_CASE)
#undef KVTIER_CUDA_STATE_CASE
  }
  return "broken";
}

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string cuda_library_from_environment() {
  const char* const name = std::getenv("KVTIER_CUDA_LIBRARY");
  return name != nullptr ? std::string(name) : std::string();
}

const CudaDriver& CudaDriver::get(const std::string& library) {
  // Never destroyed: other threads may use a driver while the process ends.
  static Registry& registry = *new Registry;
  Entry* entry = nullptr;
  {
    const std::lock_guard<std::mutex> lock(registry.mutex);
    entry = &registry.entries[library];  // the place of an entry in a map never changes
  }
  std::call_once(entry->once, [&] { entry->driver.reset(new CudaDriver(load(library))); });
  return *entry->driver;
}

CudaDriver::CudaDriver(CudaTable&& table)
    : functions_(table.functions),
      library_(std::move(table.library)),
      state_(table.state),
      reason_(std::move(table.reason)),
      version_(table.version) {
  if (state_ == CudaState::kReady) start();
}

void CudaDriver::fail(CudaState state, std::string reason) {
  state_ = state;
  reason_ = std::move(reason);
  devices_.clear();
}

void CudaDriver::fail_call(const char* function, Error error) {
  fail(CudaState::kBroken, std::string(function) + " of " + library_ + " returned " +
                               std::to_string(static_cast<int>(error)) + ", " + cuda::describe(functions_, error) +
                               ": the driver does not work; reinstall it, and see dmesg");
}

void CudaDriver::start() {
  if (const Error error = functions_.init(0); error != Error::kSuccess) {
    InitFailure failure = init_failure(error, library_);
    fail(failure.state, "NVIDIA's driver did not start (cuInit returned " + std::to_string(static_cast<int>(error)) +
                            ", " + cuda::describe(functions_, error) + "): " + failure.advice);
    return;
  }
  int count = 0;
  if (const Error error = functions_.device_get_count(&count); error != Error::kSuccess) {
    fail_call("cuDeviceGetCount", error);
    return;
  }
  if (count <= 0) {
    fail(CudaState::kNoDevice, std::string("NVIDIA's driver works, but ") + kNoDeviceAdvice);
    return;
  }
  if (count > kMostDevices) {
    fail(CudaState::kBroken,
         library_ + " counts " + std::to_string(count) + " devices: the driver does not work; reinstall it");
    return;
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    if (!read_device(ordinal)) return;
  }
}

bool CudaDriver::read_device(int ordinal) {
  CudaDevice device;
  device.ordinal = ordinal;
  const char* function = nullptr;
  Error error = Error::kSuccess;
  const auto call = [&](const char* name, Error result) {
    function = name;
    error = result;
    return result == Error::kSuccess;
  };
  char name[256] = "";
  std::size_t memory_bytes = 0;
  if (!call("cuDeviceGet", functions_.device_get(&device.handle, ordinal)) ||
      !call("cuDeviceGetName", functions_.device_get_name(name, sizeof name - 1, device.handle)) ||
      !call("cuDeviceTotalMem", functions_.device_total_mem(&memory_bytes, device.handle)) ||
      !call("cuDeviceGetAttribute",
            functions_.device_get_attribute(&device.compute_major, cuda::DeviceAttribute::kComputeCapabilityMajor,
                                            device.handle)) ||
      !call("cuDeviceGetAttribute",
            functions_.device_get_attribute(&device.compute_minor, cuda::DeviceAttribute::kComputeCapabilityMinor,
                                            device.handle))) {
    fail_call(function, error);
    return false;
  }
  name[sizeof name - 1] = '\0';
  device.name = name;
  device.memory_bytes = memory_bytes;
  // For people and for placing memory: nothing fails for want of these two.
  cuda::Uuid uuid{};
  if (functions_.device_get_uuid(&uuid, device.handle) == Error::kSuccess) device.uuid = uuid_text(uuid);
  device.pci_address = pci_address(functions_, device.handle);
  devices_.push_back(std::move(device));
  return true;
}

Result<const CudaDevice*> CudaDriver::device(int ordinal) const {
  if (!is_ready()) return Status(Code::kUnsupported, reason_);
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices_.size()) {
    return Status(Code::kInvalidValue, "CUDA device " + std::to_string(ordinal) +
                                           " was asked for, but the driver sees " + std::to_string(devices_.size()) +
                                           " (from 0); see nvidia-smi -L and CUDA_VISIBLE_DEVICES");
  }
  return &devices_[static_cast<std::size_t>(ordinal)];
}

}  // namespace kvtier
