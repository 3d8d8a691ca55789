// The test that decides whether blocks may go directly between a directory's files and a GPU. Any thread that may wait
// for the disk.
#pragma once

#include <memory>
#include <string>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"
#include "platform/cufile/cufile_driver.h"

namespace kvtier {

// Writes 1 MiB from the device into a scratch file by cuFile and reads it by the system; writes other bytes by the
// system and reads them into the device by cuFile; compares each time. Ok: direct transfers work here. Else the code
// and a sentence that says why not, for a person. Takes 4 MiB of the device for the while; the file is removed, and one
// that a process left here which was killed. `directory` is an open descriptor, `path` its name, for messages.
[[nodiscard]] Status verify_direct(const CufileDriver& driver, const std::shared_ptr<const CudaContext>& context,
                                   int directory, const std::string& path);

}  // namespace kvtier
