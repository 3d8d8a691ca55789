// Where the functions of a CudaDriver come from: a library that is opened, or CUDA's runtime that is linked in. For
// cuda_driver.cc alone. Any thread.
#pragma once

#include <string>

#include "platform/cuda/cuda_driver.h"

namespace kvtier {

struct CudaTable {
  cuda::Functions functions;
  std::string library;                  // its name in messages
  CudaState state = CudaState::kReady;  // kReady: it can be started
  std::string reason;                   // when not: what is missing and what to do
  int version = 0;                      // the CUDA version that the driver offers
};

// Opens the library and probes its functions one by one. Nothing is started.
[[nodiscard]] CudaTable load_cuda_library(const std::string& library);

// The same from the linked runtime. Only in a build with KVTIER_CUDA_API=runtime.
[[nodiscard]] CudaTable load_cuda_runtime();

// Sets state and reason if a required function is missing.
void check_required_functions(CudaTable& table);

// The state and the advice for a driver that is older than a function or a runtime that kvtier needs.
void say_too_old(CudaTable& table, const std::string& lacking);

}  // namespace kvtier
