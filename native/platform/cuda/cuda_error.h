// What a driver's error code means to kvtier: its code, its text, and whether the device is lost with it. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"
#include "platform/cuda/cuda_functions.h"

namespace kvtier::cuda {

// Whether every later call on the device fails in the same way, so that nothing on it can be used any more in this
// process: a kernel's fault, uncorrectable memory, a destroyed context.
[[nodiscard]] bool is_sticky(Error error) noexcept;

// kDeviceLost for a sticky error, kOutOfMemory, kUnsupported for what the machine or driver lacks, else kIo.
[[nodiscard]] Code code_of(Error error) noexcept;

// The driver's own name and text, "CUDA_ERROR_OUT_OF_MEMORY (out of memory)"; the number where it has none.
[[nodiscard]] std::string describe(const Functions& functions, Error error);

// Ok for kSuccess. `what` is what was asked, "cuMemAlloc of 2147483648 bytes on device 0" for example.
[[nodiscard]] Status to_status(const Functions& functions, Error error, std::string_view what);

}  // namespace kvtier::cuda
