// NVIDIA's cuFile (GPUDirect Storage), opened at run time: whether bytes can go between files and GPUs without passing
// host memory, else why not, and its functions. Any thread, but for cufile_library_from_environment(). The first use in
// a process opens and starts the library, which may take a second; it is looked for only where a GPU is ready.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"
#include "platform/cuda/cuda_driver.h"
#include "platform/cufile/cufile_functions.h"

namespace kvtier {

// Columns: C++ name, public name.
#define KVTIER_CUFILE_STATES(X)                                                               \
  X(kReady, "ready")                     /* started, and its compatibility mode is off */     \
  X(kNoGpu, "no-gpu")                    /* no CUDA device: not looked for */                 \
  X(kOff, "off")                         /* another CUDA driver was named, and no cuFile */   \
  X(kDeviceUnable, "device-unable")      /* no GPU here lets other devices at its memory */   \
  X(kNoUdev, "no-udev")                  /* it could not tell which device a file lies on */  \
  X(kAbsent, "absent")                   /* the library is not installed */                   \
  X(kUnloadable, "unloadable")           /* the file is there but cannot be loaded */         \
  X(kNotCufile, "not-cufile")            /* the library is something else */                  \
  X(kTooOld, "too-old")                  /* it lacks a function that kvtier needs */          \
  X(kNoKernelModule, "no-kernel-module") /* nvidia-fs is not loaded, or does not work */      \
  X(kMismatch, "mismatch")               /* library and nvidia-fs differ in version */        \
  X(kNotPermitted, "not-permitted")      /* no right to the devices of nvidia-fs */           \
  X(kUnsupported, "unsupported")         /* it refuses this machine or its GPUs */            \
  X(kCompatMode, "compat-mode")          /* it would move bytes through host memory itself */ \
  X(kBroken, "broken")                   /* any other failure */

enum class CufileState : std::uint8_t {
#define KVTIER_CUFILE_STATE_NAME(name, text) name,
  KVTIER_CUFILE_STATES(KVTIER_CUFILE_STATE_NAME)
#undef KVTIER_CUFILE_STATE_NAME
};

// "ready", "no-kernel-module" and so on.
[[nodiscard]] const char* name_of(CufileState state) noexcept;

class CufileDriver {
 public:
  // The process's one cuFile of that name for that CUDA driver, opened and started by the first call; it is never
  // closed, for it keeps threads, and must not be closed while the process ends. `library` is cuFile's file;
  // empty means libcufile.so.0, which is used with CUDA's default driver alone: an empty `cuda_library`.
  [[nodiscard]] static const CufileDriver& get(const std::string& cuda_library, const std::string& library);

  CufileDriver(const CufileDriver&) = delete;
  CufileDriver& operator=(const CufileDriver&) = delete;
  ~CufileDriver() = default;

  [[nodiscard]] bool is_ready() const noexcept { return state_ == CufileState::kReady; }
  [[nodiscard]] CufileState state() const noexcept { return state_; }
  // Empty when ready; else what is missing and what to do.
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
  // The library's version, 1000 * major + 10 * minor; 0 when unknown.
  [[nodiscard]] int version() const noexcept { return version_; }
  // The file as it was named, "libcufile.so.0" for example.
  [[nodiscard]] const std::string& library() const noexcept { return library_; }
  // When ready every required function is set. In other states any may be nullptr.
  [[nodiscard]] const cufile::Functions& functions() const noexcept { return functions_; }
  [[nodiscard]] const CudaDriver& cuda() const noexcept { return cuda_; }

  // Ok, or kUnsupported and why cuFile is not ready, or cannot reach this device's memory.
  [[nodiscard]] Status check_device(const CudaDevice& device) const;

 private:
  CufileDriver(const CudaDriver& cuda, std::string library);
  void load(bool is_named, bool cuda_is_named);
  [[nodiscard]] bool find_able_device();
  [[nodiscard]] bool open_library();
  void start();
  [[nodiscard]] bool allows_compat_mode(const cufile::Properties& properties) const;
  void fail(CufileState state, std::string reason);
  void fail_to_open(const cufile::Outcome& outcome);

  const CudaDriver& cuda_;
  cufile::Functions functions_;
  std::string library_;
  CufileState state_ = CufileState::kReady;
  std::string reason_;
  int version_ = 0;

  friend struct CufileEntry;
};

// cuFile's file that the environment variable KVTIER_CUFILE_LIBRARY names, empty when there is none. It also names
// /dev/null as cuFile's log in the environment (CUFILE_LOGFILE_PATH) where nobody has named another: cuFile looks
// there once, when it is loaded, and would write cufile.log into the current directory. So it is to be called before
// CufileDriver::get(), and on the JavaScript thread, the only one that changes the environment.
[[nodiscard]] std::string cufile_library_from_environment();

}  // namespace kvtier
