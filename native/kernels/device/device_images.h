// The compiled kernels that the build has put into the program: data that nothing reads before a driver loads it. Any
// thread.
#pragma once

namespace kvtier {

// As cuModuleLoadData takes them; nullptr where the build has none.
struct DeviceImages {
  const void* code = nullptr;  // for each generation of GPUs, as the newest toolkit makes it
  const void* ptx = nullptr;   // for drivers and devices that take none of it: the driver compiles it
};

[[nodiscard]] DeviceImages device_images() noexcept;

}  // namespace kvtier
