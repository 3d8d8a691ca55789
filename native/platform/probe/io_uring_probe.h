// Whether this process may use io_uring. A ring is made and closed again. Any thread.
#pragma once

#include <string>

namespace kvtier {

struct IoUringProbe {
  bool available = false;
  std::string reason;  // empty when available; else why not, and what to do
};

[[nodiscard]] IoUringProbe probe_io_uring();

// Why a ring could not be made, from the error number of io_uring_setup.
[[nodiscard]] std::string io_uring_refusal(int errno_value);

}  // namespace kvtier
