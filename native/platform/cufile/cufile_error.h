// What cuFile's error numbers mean to kvtier: their code and their text. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"
#include "platform/cuda/cuda_functions.h"
#include "platform/cufile/cufile_types.h"

namespace kvtier::cufile {

// kOutOfMemory, kUnsupported for what the machine, the file or the GPU lacks, what the driver's error means where CUDA
// failed (kDeviceLost among others), else kIo.
[[nodiscard]] Code code_of(const Outcome& outcome) noexcept;

// "CU_FILE_IO_NOT_SUPPORTED (5008): not available for this file"; with the driver's own name and text behind it where
// CUDA failed.
[[nodiscard]] std::string describe(const cuda::Functions& functions, const Outcome& outcome);

// Ok for kSuccess. `what` is what was asked, "cuFileHandleRegister of /data/group-0.slab" for example.
[[nodiscard]] Status to_status(const cuda::Functions& functions, const Outcome& outcome, std::string_view what);

// What a negative answer of cuFileRead or cuFileWrite means: -1 is an error of the system, a number below -5000 one of
// cuFile. kNoSpace, kNotWritable, a code as above, or kIo.
[[nodiscard]] Status transfer_failure(const cuda::Functions& functions, ssize_t answer, int errno_value,
                                      std::string_view what);

}  // namespace kvtier::cufile
