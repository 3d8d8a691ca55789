#include "platform/cufile/cufile_driver.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "platform/cufile/cufile_error.h"
#include "platform/cufile/cufile_machine.h"
#include "platform/dynamic_library.h"

namespace kvtier {
namespace {

using cufile::Error;

// The one name that every installation has; libcufile.so comes with development packages only.
constexpr const char* kDefaultLibrary = "libcufile.so.0";
constexpr const char* kUdev = "/run/udev";
constexpr const char* kModules = "/proc/modules";

struct OpenFailure {
  CufileState state;
  const char* advice;
};

// What a failed cuFileDriverOpen means to the person who runs the machine.
OpenFailure open_failure(Error error) {
  // Most numbers are no answers of this call: what they have in common is the last line.
  if (error == Error::kDriverNotInitialized || error == Error::kNvfsSetupError || error == Error::kNvfsDriverError) {
    return {CufileState::kNoKernelModule,
            "load the kernel module nvidia-fs (modprobe nvidia-fs, of the package nvidia-gds), and see dmesg"};
  }
  if (error == Error::kDriverVersionMismatch || error == Error::kDriverVersionReadError) {
    return {CufileState::kMismatch,
            "the kernel module nvidia-fs and libcufile must be of one release; update the older one"};
  }
  if (error == Error::kPermissionDenied) {
    return {CufileState::kNotPermitted, "give this user, or the container, access to /dev/nvidia-fs*"};
  }
  if (error == Error::kPlatformNotSupported || error == Error::kDeviceNotSupported || error == Error::kDeviceNotFound) {
    return {CufileState::kUnsupported, "see NVIDIA's list of what GPUDirect Storage supports"};
  }
  return {CufileState::kBroken, "reinstall GPUDirect Storage, and see dmesg"};
}

}  // namespace

struct CufileEntry {
  static std::unique_ptr<const CufileDriver> make(const std::string& cuda_library, const std::string& library) {
    auto driver = std::unique_ptr<CufileDriver>(
        new CufileDriver(CudaDriver::get(cuda_library), library.empty() ? kDefaultLibrary : library));
    driver->load(!library.empty(), !cuda_library.empty());
    return driver;
  }

  std::once_flag once;
  std::unique_ptr<const CufileDriver> driver;
};

const char* name_of(CufileState state) noexcept {
  switch (state) {
#define KVTIER_CUFILE_STATE_CASE(name, text) \
  case CufileState::name:                    \
    return text;
    KVTIER_CUFILE_STATES(KVTIER_CUFILE_STATE_CASE)
#undef KVTIER_CUFILE_STATE_CASE
  }
  return "broken";
}

std::string cufile_library_from_environment() {
  ::setenv("CUFILE_LOGFILE_PATH", "/dev/null", 0);
  const char* const name = std::getenv("KVTIER_CUFILE_LIBRARY");
  return name != nullptr ? std::string(name) : std::string();
}

const CufileDriver& CufileDriver::get(const std::string& cuda_library, const std::string& library) {
  struct Registry {
    std::mutex mutex;  // guards `entries`, not what is in them: starting cuFile takes long
    std::map<std::pair<std::string, std::string>, CufileEntry> entries;
  };
  // Never destroyed: other threads may use cuFile while the process ends.
  static Registry& registry = *new Registry;
  CufileEntry* entry = nullptr;
  {
    const std::lock_guard<std::mutex> lock(registry.mutex);
    entry = &registry.entries[{cuda_library, library}];  // the place of an entry in a map never changes
  }
  std::call_once(entry->once, [&] { entry->driver = CufileEntry::make(cuda_library, library); });
  return *entry->driver;
}

CufileDriver::CufileDriver(const CudaDriver& cuda, std::string library) : cuda_(cuda), library_(std::move(library)) {}

void CufileDriver::fail(CufileState state, std::string reason) {
  state_ = state;
  reason_ = std::move(reason);
}

void CufileDriver::load(bool is_named, bool cuda_is_named) {
  if (!cuda_.is_ready()) {
    fail(CufileState::kNoGpu, "not looked for: cuFile needs a GPU");
    return;
  }
  // The library opens CUDA's driver by itself: with another driver than that its addresses would mean nothing.
  if (cuda_is_named && !is_named) {
    fail(CufileState::kOff,
         "not looked for: KVTIER_CUDA_LIBRARY names a CUDA driver, and KVTIER_CUFILE_LIBRARY "
         "does not name the cuFile that goes with it");
    return;
  }
  if (!find_able_device()) return;
  // Who names a library is taken to know what it needs.
  if (!is_named) {
    CufileNeeds needs = check_cufile_needs(kUdev, kModules);
    if (needs.state != CufileState::kReady) {
      fail(needs.state, std::move(needs.reason));
      return;
    }
  }
  if (open_library()) start();
}

bool CufileDriver::find_able_device() {
  std::string reason;
  for (const CudaDevice& device : cuda_.devices()) {
    Status status = check_device(device);
    if (status.is_ok()) return true;
    if (reason.empty()) reason = status.message();
  }
  fail(CufileState::kDeviceUnable, std::move(reason));
  return false;
}

Status CufileDriver::check_device(const CudaDevice& device) const {
  if (!is_ready()) return Status(Code::kUnsupported, reason_);
  int able = 0;
  const cuda::Error error =
      cuda_.functions().device_get_attribute(&able, cuda::DeviceAttribute::kGpuDirectRdmaSupported, device.handle);
  if (error == cuda::Error::kSuccess && able != 0) return Status::ok();
  return Status(Code::kUnsupported,
                device.name + " (device " + std::to_string(device.ordinal) +
                    ") does not let other devices at its memory (GPUDirect RDMA), which data-centre and "
                    "workstation GPUs do");
}

bool CufileDriver::open_library() {
  const auto opened = DynamicLibrary::open(library_, DynamicLibrary::Lifetime::kProcess);
  if (!opened) {
    const std::string& message = opened.status().message();
    const bool is_missing =
        message.find(library_ + ": ") != std::string::npos && message.find("No such file") != std::string::npos;
    if (is_missing) {
      fail(CufileState::kAbsent, library_ +
                                     " was not found: for direct transfers between files and the GPU, install "
                                     "GPUDirect Storage (package nvidia-gds or libcufile)");
    } else {
      fail(CufileState::kUnloadable, library_ + " cannot be loaded (" + message + "): reinstall GPUDirect Storage");
    }
    return false;
  }
  const char* missing = nullptr;
#define KVTIER_CUFILE_FIND(member, symbol, ...) \
  functions_.member = opened.value().function<cufile::signatures::member>(symbol);
#define KVTIER_CUFILE_CHECK(member, symbol, ...) \
  if (missing == nullptr && functions_.member == nullptr) missing = symbol;
  KVTIER_CUFILE_REQUIRED(KVTIER_CUFILE_FIND)
  KVTIER_CUFILE_OPTIONAL(KVTIER_CUFILE_FIND)
  KVTIER_CUFILE_REQUIRED(KVTIER_CUFILE_CHECK)
#undef KVTIER_CUFILE_CHECK
#undef KVTIER_CUFILE_FIND
  if (functions_.driver_open == nullptr) {
    fail(CufileState::kNotCufile,
         library_ + " has no function cuFileDriverOpen: it is not cuFile; reinstall GPUDirect Storage");
    return false;
  }
  if (functions_.get_version != nullptr && functions_.get_version(&version_).error != Error::kSuccess) version_ = 0;
  if (missing == nullptr) return true;
  const std::string version = version_ > 0 ? " (version " + cuda_version_text(version_) + ")" : std::string();
  fail(CufileState::kTooOld, library_ + version + " is too old: it lacks " + missing + "; update GPUDirect Storage");
  return false;
}

void CufileDriver::start() {
  // cuFile's own way through host memory would be slower than kvtier's, and would look like a direct transfer. What is
  // set here counts more than cuFile's configuration, except where that forces the mode.
  if (functions_.set_parameter_bool != nullptr) {
    (void)functions_.set_parameter_bool(cufile::BoolParameter::kAllowCompatMode, false);
    (void)functions_.set_parameter_bool(cufile::BoolParameter::kForceCompatMode, false);
  }
  if (const cufile::Outcome outcome = functions_.driver_open(); outcome.error != Error::kSuccess) {
    fail_to_open(outcome);
    return;
  }
  cufile::Properties properties;
  if (const cufile::Outcome outcome = functions_.driver_get_properties(&properties); outcome.error != Error::kSuccess) {
    fail(CufileState::kBroken, "cuFileDriverGetProperties of " + library_ + " failed with " +
                                   cufile::describe(cuda_.functions(), outcome) +
                                   "; reinstall GPUDirect Storage, and see dmesg");
    return;
  }
  if (allows_compat_mode(properties)) {
    fail(CufileState::kCompatMode,
         "cuFile's configuration lets it move bytes through host memory by itself (compatibility mode), which is "
         "slower than kvtier's own way: set allow_compat_mode and force_compat_mode to false in /etc/cufile.json, or "
         "in the file that CUFILE_ENV_PATH_JSON names, and unset CUFILE_FORCE_COMPAT_MODE");
  }
}

bool CufileDriver::allows_compat_mode(const cufile::Properties& properties) const {
  // The parameter is what cuFile goes by; the flag, which all versions have, may be set where the mode is off.
  bool allowed = false;
  if (functions_.get_parameter_bool != nullptr &&
      functions_.get_parameter_bool(cufile::BoolParameter::kAllowCompatMode, &allowed).error == Error::kSuccess) {
    return allowed;
  }
  return (properties.control_flags & cufile::kControlAllowCompatMode) != 0;
}

void CufileDriver::fail_to_open(const cufile::Outcome& outcome) {
  const OpenFailure failure = open_failure(outcome.error);
  fail(failure.state, "cuFile did not start (cuFileDriverOpen of " + library_ + " failed with " +
                          cufile::describe(cuda_.functions(), outcome) + "): " + failure.advice);
}

}  // namespace kvtier
