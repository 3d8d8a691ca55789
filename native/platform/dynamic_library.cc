#include "platform/dynamic_library.h"

#include <dlfcn.h>

#include <utility>

namespace kvtier {

Result<DynamicLibrary> DynamicLibrary::open(const std::string& name, Lifetime lifetime) {
  const int keep = lifetime == Lifetime::kProcess ? RTLD_NODELETE : 0;
  void* const handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | keep);
  if (handle == nullptr) {
    const char* const text = ::dlerror();
    return Status(Code::kUnsupported, text != nullptr ? text : name + ": could not be opened");
  }
  DynamicLibrary library;
  library.handle_ = handle;
  return library;
}

DynamicLibrary::~DynamicLibrary() {
  if (handle_ != nullptr) ::dlclose(handle_);
}

DynamicLibrary::DynamicLibrary(DynamicLibrary&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

DynamicLibrary& DynamicLibrary::operator=(DynamicLibrary&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

void* DynamicLibrary::symbol(const char* name) const noexcept {
  return handle_ != nullptr ? ::dlsym(handle_, name) : nullptr;
}

void* find_symbol_in_process(const char* name) noexcept {
  return ::dlsym(RTLD_DEFAULT, name);
}

}  // namespace kvtier
