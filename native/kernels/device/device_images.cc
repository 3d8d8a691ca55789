#include "kernels/device/device_images.h"

#if KVTIER_CUDA

#include "kernels/device/embed_image.h"

KVTIER_EMBED(kvtier_device_image, KVTIER_DEVICE_IMAGE);
KVTIER_EMBED(kvtier_device_ptx_image, KVTIER_DEVICE_PTX_IMAGE);

namespace kvtier {

DeviceImages device_images() noexcept {
  return {kvtier_device_image, kvtier_device_ptx_image};
}

}  // namespace kvtier

#else

namespace kvtier {

DeviceImages device_images() noexcept {
  return {};
}

}  // namespace kvtier

#endif
