#include "kernels/device/device_images.h"

#if KVTIER_CUDA

// Read-only data of its own section, aligned as drivers expect it.
#define KVTIER_EMBED(symbol, path)        \
  __asm__(".pushsection .rodata." #symbol \
          ",\"a\",%progbits\n"            \
          ".balign 64\n"                  \
          ".global " #symbol              \
          "\n"                            \
          ".hidden " #symbol "\n" #symbol \
          ":\n"                           \
          ".incbin \"" path               \
          "\"\n"                          \
          ".popsection\n");               \
  extern "C" const unsigned char symbol[]

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
