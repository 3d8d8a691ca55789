#include "platform/cuda/cuda_table.h"

#include <string_view>
#include <type_traits>
#include <utility>

#include "platform/dynamic_library.h"

namespace kvtier {
namespace {

using cuda::Error;

// True when the loader's message says that the file itself, not something that it needs, is missing.
bool says_missing(std::string_view message, const std::string& library) {
  return message.find(library + ": ") != std::string_view::npos &&
         message.find("No such file") != std::string_view::npos;
}

// Finds functions of one opened driver, in the form of a given CUDA version.
class Finder {
 public:
  Finder(const DynamicLibrary& library, int driver_version)
      : library_(library),
        driver_version_(driver_version),
        v2_(library.function<cuda::signatures::get_proc_address_v2>("cuGetProcAddress_v2")),
        v1_(library.function<cuda::signatures::get_proc_address>("cuGetProcAddress")) {}

  template <typename Signature>
  void find(const char* base, const char* symbol, int version, Signature*& function) const {
    // A driver that is older than the form asked for might answer with an older form, which takes other arguments.
    if (version > driver_version_) return;
    function = reinterpret_cast<Signature*>(ask(base, version));
    // Drivers before 11.3 are not asked but looked through: an exported name stands for one form alone.
    if (function == nullptr) function = library_.function<Signature>(symbol);
  }

 private:
  [[nodiscard]] void* ask(const char* base, int version) const {
    void* function = nullptr;
    Error result = Error::kNotFound;
    int status = 0;
    if (v2_ != nullptr) {
      result = v2_(base, &function, version, cuda::kFindLegacyStream, &status);
    } else if (v1_ != nullptr) {
      result = v1_(base, &function, version, cuda::kFindLegacyStream);
    }
    return result == Error::kSuccess ? function : nullptr;
  }

  const DynamicLibrary& library_;
  int driver_version_;
  cuda::signatures::get_proc_address_v2* v2_;
  cuda::signatures::get_proc_address* v1_;
};

CudaTable& with_state(CudaTable& table, CudaState state, std::string reason) {
  table.state = state;
  table.reason = std::move(reason);
  return table;
}

}  // namespace

CudaTable load_cuda_library(const std::string& library) {
  CudaTable table;
  table.library = library;
  const auto opened = DynamicLibrary::open(library, DynamicLibrary::Lifetime::kProcess);
  if (!opened) {
    const std::string& message = opened.status().message();
    if (says_missing(message, library)) {
      return with_state(table, CudaState::kAbsent,
                        library +
                            " was not found: to use a GPU, install NVIDIA's driver, or start the container with "
                            "access to the GPU");
    }
    return with_state(table, CudaState::kUnloadable,
                      library + " cannot be loaded (" + message + "): reinstall NVIDIA's driver");
  }
  const DynamicLibrary& driver = opened.value();
  // Two that every driver exports under these names; the version can be asked for before the driver has started.
  table.functions.init = driver.function<cuda::signatures::init>("cuInit");
  table.functions.driver_get_version = driver.function<cuda::signatures::driver_get_version>("cuDriverGetVersion");
  if (table.functions.init == nullptr || table.functions.driver_get_version == nullptr) {
    return with_state(table, CudaState::kNotADriver,
                      library + " has no function " +
                          (table.functions.init == nullptr ? "cuInit" : "cuDriverGetVersion") +
                          ": it is no CUDA driver; reinstall the driver");
  }
  const Error result = table.functions.driver_get_version(&table.version);
  if (result != Error::kSuccess) {
    table.version = 0;
    return with_state(table, CudaState::kBroken,
                      "cuDriverGetVersion of " + library + " returned " + std::to_string(static_cast<int>(result)) +
                          ": the driver does not work; reinstall it, and see dmesg");
  }
  const Finder finder(driver, table.version);
#define KVTIER_CUDA_FIND(member, base, symbol, version, ...) finder.find(base, symbol, version, table.functions.member);
  KVTIER_CUDA_REQUIRED(KVTIER_CUDA_FIND)
  KVTIER_CUDA_OPTIONAL(KVTIER_CUDA_FIND)
#undef KVTIER_CUDA_FIND
  check_required_functions(table);
  return table;
}

void check_required_functions(CudaTable& table) {
  const char* missing = nullptr;
  int since = 0;
#define KVTIER_CUDA_CHECK(member, base, symbol, version, ...)    \
  if (missing == nullptr && table.functions.member == nullptr) { \
    missing = base;                                              \
    since = version;                                             \
  }
  KVTIER_CUDA_REQUIRED(KVTIER_CUDA_CHECK)
#undef KVTIER_CUDA_CHECK
  if (missing == nullptr) return;
  say_too_old(table, "the function " + std::string(missing) + " of CUDA " + cuda_version_text(since));
}

void say_too_old(CudaTable& table, const std::string& lacking) {
  table.state = CudaState::kTooOld;
  table.reason = "NVIDIA's driver is too old: it offers CUDA " + cuda_version_text(table.version) + " and lacks " +
                 lacking + "; update the driver";
}

}  // namespace kvtier
