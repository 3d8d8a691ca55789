// How fast blocks come from a directory's disk to a GPU, directly and through host memory, measured in a moment. Any
// thread of kvtier's own that may wait for the disk.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"
#include "platform/cufile/cufile_driver.h"
#include "transfer/device/device_link.h"
#include "transfer/device/direct_choice.h"

namespace kvtier {

struct DirectMeasureOptions {
  std::uint64_t most_bytes = std::uint64_t{8} << 20;  // of a load; so much device and host memory is taken, the former
                                                      // at least 4 MiB, and a file of twice to four times a load
  unsigned rounds = 9;                                // that count, after one that does not
  unsigned budget_ms = 200;                           // later no further round is begun, but for the first that counts
  unsigned give_up_ms = 2000;                         // later nothing more is written or loaded, and there is no figure
};

// Loads blocks of that stride from a scratch file of its own in the directory, of each kind of load, in turns by cuFile
// with a checksum made by the GPU, and by direct reads into registered memory with a checksum made by the CPU and
// copies; the figures are the medians. What comes is compared with what was written. Precondition: verify_direct() said
// that direct transfers work there. Fails where one of the ways does, where memory or the file cannot be had, and with
// kDeadline where a disk is too slow; the file is gone in any case. It waits for a disk or a GPU that hangs.
[[nodiscard]] Result<DirectFigures> measure_direct(const CufileDriver& driver, DeviceLink& link, int directory,
                                                   const std::string& path, std::uint64_t slot_stride,
                                                   const DirectMeasureOptions& options = {});

}  // namespace kvtier
