#include "platform/cufile/cufile_machine.h"

#include <unistd.h>

namespace kvtier {

CufileNeeds check_cufile_needs(const std::string& udev, const std::string& modules) {
  // Where the list cannot be read, libcufile 1.15 reads it without end in its compatibility mode.
  if (::access(modules.c_str(), R_OK) != 0) {
    return {CufileState::kNoKernelModule,
            modules +
                " cannot be read, so that cuFile cannot find the kernel module nvidia-fs: run kvtier where the "
                "kernel's modules can be seen"};
  }
  if (::access(udev.c_str(), R_OK | X_OK) != 0) {
    return {CufileState::kNoUdev, udev +
                                      " is not there, by which cuFile tells on which device a file lies: start the "
                                      "container with " +
                                      udev + " mounted, read-only"};
  }
  return {};
}

}  // namespace kvtier
