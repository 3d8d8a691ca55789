// The simulated libraries as a native test uses them: opened from the folder of the test program, with their functions
// found by name. Any thread once opened.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "platform/cuda/cuda_functions.h"
#include "support/sim-cuda/sim_control.h"
#include "support/sim-cuda/sim_kernel.h"

namespace kvtier::sim {

// A library beside the program that runs, as CMake builds them.
inline std::string library_path(const std::string& file_name) {
  std::array<char, 4096> program{};
  const ssize_t length = ::readlink("/proc/self/exe", program.data(), program.size());
  const std::string path(program.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  return path.substr(0, path.rfind('/') + 1) + file_name;
}

// Never closed, for the simulator's thread runs in it.
class Library {
 public:
  explicit Library(const std::string& file_name) : path_(library_path(file_name)) {
    handle_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) fail(::dlerror());
  }

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] void* find(const char* symbol) const { return ::dlsym(handle_, symbol); }

  template <typename Signature>
  void find(const char* symbol, Signature*& function) const {
    function = reinterpret_cast<Signature*>(find(symbol));
    if (function == nullptr) fail(symbol);
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    std::fprintf(stderr, "%s: %s\n", path_.c_str(), what);
    std::abort();
  }

  std::string path_;
  void* handle_ = nullptr;
};

// Every function of sim_control.h and sim_kernel.h, without its prefix.
#define KVTIER_SIM_CONTROLS(X) \
  X(reset)                     \
  X(set)                       \
  X(hold)                      \
  X(release)                   \
  X(hold_stream)               \
  X(release_stream)            \
  X(step)                      \
  X(step_piece)                \
  X(step_any)                  \
  X(streams)                   \
  X(pending)                   \
  X(next)                      \
  X(wait_for_work)             \
  X(wait_for_calls)            \
  X(fail_call)                 \
  X(fail_work)                 \
  X(fail_nothing)              \
  X(lose_device)               \
  X(calls)                     \
  X(count)                     \
  X(violations)                \
  X(violation)                 \
  X(clear_violations)          \
  X(read)                      \
  X(write)                     \
  X(set_ipc_capable)           \
  X(pin)                       \
  X(unpin)                     \
  X(has_context)               \
  X(report)                    \
  X(alias)                     \
  X(misaligned)                \
  X(register_kernel)

// The simulated driver: its calls by their exported names, and its controls.
struct SimDriver {
  SimDriver() : library("libkvtier_sim_cuda.so") {
#define KVTIER_SIM_FIND(member, base, symbol, version, ...) library.find(symbol, cuda.member);
    KVTIER_CUDA_REQUIRED(KVTIER_SIM_FIND)
    KVTIER_CUDA_OPTIONAL(KVTIER_SIM_FIND)
#undef KVTIER_SIM_FIND
#define KVTIER_SIM_FIND(name) library.find("kvtier_sim_" #name, name);
    KVTIER_SIM_CONTROLS(KVTIER_SIM_FIND)
#undef KVTIER_SIM_FIND
  }

  // The process's only one.
  [[nodiscard]] static const SimDriver& get() {
    static const SimDriver one;
    return one;
  }

  [[nodiscard]] std::string violation_text(std::size_t index = 0) const {
    std::array<char, 512> text{};
    violation(index, text.data(), text.size());
    return text.data();
  }

  [[nodiscard]] std::string next_text(cuda::Stream stream) const {
    std::array<char, 512> text{};
    next(stream, text.data(), text.size());
    return text.data();
  }

  Library library;
  cuda::Functions cuda;
#define KVTIER_SIM_MEMBER(name) decltype(&kvtier_sim_##name) name = nullptr;
  KVTIER_SIM_CONTROLS(KVTIER_SIM_MEMBER)
#undef KVTIER_SIM_MEMBER
};

}  // namespace kvtier::sim
