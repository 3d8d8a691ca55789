// NVIDIA's driver, opened at run time: whether it can be used, else why not, its functions and its devices. Any thread.
// The first use of a name in a process opens and starts the driver, which may take a second where there is one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "platform/cuda/cuda_functions.h"

namespace kvtier {

// Columns: C++ name, public name.
#define KVTIER_CUDA_STATES(X)                                                   \
  X(kReady, "ready")               /* at least one device */                    \
  X(kAbsent, "absent")             /* no driver is installed */                 \
  X(kUnloadable, "unloadable")     /* the file is there but cannot be loaded */ \
  X(kNotADriver, "not-a-driver")   /* the library is something else */          \
  X(kTooOld, "too-old")            /* it lacks a function that kvtier needs */  \
  X(kStub, "stub")                 /* the toolkit's library for linking */      \
  X(kNoDevice, "no-device")        /* it works and sees no device */            \
  X(kBusy, "busy")                 /* another process has the device alone */   \
  X(kNotReady, "not-ready")        /* a service that it needs does not run */   \
  X(kMismatch, "mismatch")         /* library and kernel module differ */       \
  X(kIncompatible, "incompatible") /* the device takes no such library */       \
  X(kBroken, "broken")             /* any other failure */

enum class CudaState : std::uint8_t {
#define KVTIER_CUDA_STATE_NAME(name, text) name,
  KVTIER_CUDA_STATES(KVTIER_CUDA_STATE_NAME)
#undef KVTIER_CUDA_STATE_NAME
};

// "ready", "too-old" and so on.
[[nodiscard]] const char* name_of(CudaState state) noexcept;

// A CUDA version as people write it: "12.8" of 12080.
[[nodiscard]] std::string cuda_version_text(int version);

struct CudaDevice {
  int ordinal = 0;  // its place among the devices that CUDA_VISIBLE_DEVICES leaves
  cuda::Device handle = 0;
  std::string name;
  std::string uuid;  // "b0e8c7a4-…", as nvidia-smi prints it after "GPU-"; empty when the driver does not say
  std::uint64_t memory_bytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
  std::string pci_address;  // "0000:65:00.0", its name in /sys/bus/pci/devices; empty when the driver does not say
};

struct CudaTable;

class CudaDriver {
 public:
  // The process's one driver of that name, opened and started by the first call; it is never closed, for drivers keep
  // threads. `library` is the driver's file; empty means libcuda.so.1, or CUDA's runtime in a build with
  // KVTIER_CUDA_API=runtime.
  [[nodiscard]] static const CudaDriver& get(const std::string& library);

  CudaDriver(const CudaDriver&) = delete;
  CudaDriver& operator=(const CudaDriver&) = delete;
  ~CudaDriver() = default;

  [[nodiscard]] bool is_ready() const noexcept { return state_ == CudaState::kReady; }
  [[nodiscard]] CudaState state() const noexcept { return state_; }
  // Empty when ready; else what is missing and what to do.
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
  // The CUDA version that the driver offers, 1000 * major + 10 * minor; 0 when unknown.
  [[nodiscard]] int version() const noexcept { return version_; }
  // The file as it was named, "libcuda.so.1" for example.
  [[nodiscard]] const std::string& library() const noexcept { return library_; }
  // When ready every required function is set. In other states any may be nullptr.
  [[nodiscard]] const cuda::Functions& functions() const noexcept { return functions_; }
  // By ordinal; empty unless ready.
  [[nodiscard]] const std::vector<CudaDevice>& devices() const noexcept { return devices_; }

  // The device of that ordinal, as long-lived as the driver. kUnsupported with reason() when not ready, kInvalidValue
  // when there is no such device.
  [[nodiscard]] Result<const CudaDevice*> device(int ordinal) const;

 private:
  explicit CudaDriver(CudaTable&& table);
  void start();
  void fail(CudaState state, std::string reason);
  void fail_call(const char* function, cuda::Error error);
  [[nodiscard]] bool read_device(int ordinal);

  cuda::Functions functions_;
  std::string library_;
  CudaState state_;
  std::string reason_;
  int version_;
  std::vector<CudaDevice> devices_;
};

// The driver's file that the environment variable KVTIER_CUDA_LIBRARY names, empty when there is none. Call it on the
// JavaScript thread, the only one that changes the environment.
[[nodiscard]] std::string cuda_library_from_environment();

}  // namespace kvtier
