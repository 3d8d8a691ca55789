// What cuFile needs of the system and does not say itself when it is missing. Any thread.
#pragma once

#include <string>

#include "platform/cufile/cufile_driver.h"

namespace kvtier {

struct CufileNeeds {
  CufileState state = CufileState::kReady;
  std::string reason;  // empty when ready
};

// `udev` is the folder of udev's data, /run/udev; `modules` the list of the kernel's modules, /proc/modules.
[[nodiscard]] CufileNeeds check_cufile_needs(const std::string& udev, const std::string& modules);

}  // namespace kvtier
