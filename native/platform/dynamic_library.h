// Libraries opened at run time: vendors' drivers, and what the host process already carries. Any thread.
#pragma once

#include <string>

#include "core/status.h"

namespace kvtier {

// One opened library; closed with the object unless it was opened to stay.
class DynamicLibrary {
 public:
  enum class Lifetime {
    kObject,   // closed with the object
    kProcess,  // never unloaded: drivers keep threads and exit handlers of their own
  };

  // Fails with kUnsupported; the message is the loader's own text.
  [[nodiscard]] static Result<DynamicLibrary> open(const std::string& name, Lifetime lifetime);

  DynamicLibrary() noexcept = default;
  ~DynamicLibrary();
  DynamicLibrary(DynamicLibrary&& other) noexcept;
  DynamicLibrary& operator=(DynamicLibrary&& other) noexcept;
  DynamicLibrary(const DynamicLibrary&) = delete;
  DynamicLibrary& operator=(const DynamicLibrary&) = delete;

  // The function of that name as a pointer of type `Function`; nullptr when the library has none.
  template <typename Function>
  [[nodiscard]] Function* function(const char* name) const noexcept {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  [[nodiscard]] void* symbol(const char* name) const noexcept;
  void* handle_ = nullptr;
};

[[nodiscard]] void* find_symbol_in_process(const char* name) noexcept;

// The same over everything the process has loaded for general use, the program itself first; nullptr when there is
// none.
template <typename Function>
[[nodiscard]] Function* function_in_process(const char* name) noexcept {
  return reinterpret_cast<Function*>(find_symbol_in_process(name));
}

}  // namespace kvtier
