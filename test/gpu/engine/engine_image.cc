#include "gpu/engine/engine_image.h"

#if KVTIER_CUDA

#include "kernels/device/embed_image.h"

KVTIER_EMBED(kvtier_engine_image, KVTIER_ENGINE_IMAGE);

namespace kvtier::engine {

bool has_engine_code() noexcept {
  return true;
}
const void* engine_image() noexcept {
  return kvtier_engine_image;
}

}  // namespace kvtier::engine

#else

namespace kvtier::engine {

bool has_engine_code() noexcept {
  return false;
}
const void* engine_image() noexcept {
  // PTX that names the kernels, for the simulated driver looks for their names in it.
  return ".version 7.4\n.target sm_75\n.address_size 64\n"
         "// kvtier_engine_embed kvtier_engine_append kvtier_engine_score kvtier_engine_attend kvtier_engine_digest\n";
}

}  // namespace kvtier::engine

#endif
