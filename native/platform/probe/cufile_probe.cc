#include "platform/probe/cufile_probe.h"

#include "platform/dynamic_library.h"

namespace kvtier {
namespace {

// The one name that every installation has; libcufile.so comes with development packages only.
constexpr const char* kLibrary = "libcufile.so.0";
// What the gds storage cannot do without.
constexpr const char* kNeeded[] = {"cuFileDriverOpen",  "cuFileHandleRegister",     "cuFileHandleDeregister",
                                   "cuFileBufRegister", "cuFileBufDeregister",      "cuFileRead",
                                   "cuFileWrite",       "cuFileDriverGetProperties"};

}  // namespace

CufileProbe probe_cufile(bool has_device) {
  CufileProbe probe;
  if (!has_device) {
    probe.reason = "not looked for: cuFile needs a GPU";
    return probe;
  }
  const auto library = DynamicLibrary::open(kLibrary, DynamicLibrary::Lifetime::kProcess);
  if (!library) {
    probe.reason = std::string(kLibrary) + " cannot be loaded (" + library.status().message() +
                   "): for direct reads into the GPU, install GPUDirect Storage (package gds-tools or libcufile)";
    return probe;
  }
  for (const char* const name : kNeeded) {
    if (library.value().function<void()>(name) != nullptr) continue;
    probe.reason = std::string(kLibrary) + " lacks " + name + ": update GPUDirect Storage";
    return probe;
  }
  probe.available = true;
  return probe;
}

}  // namespace kvtier
