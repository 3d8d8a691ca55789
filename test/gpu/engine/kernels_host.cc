// The host forms of the engine's kernels, which the simulated driver runs. A host form's thread.
#include "gpu/engine/decode_kernels.h"
#include "support/sim-cuda/sim_kernel.h"

namespace kvtier::engine {
namespace {

template <typename Body>
void run_on_host(const sim::LaunchShape& shape, DecodeLaunch launch) {
  const std::uint64_t end = shape.block_end * shape.block_x;
  for (std::uint64_t item = shape.block_begin * shape.block_x; item < end && item < Body::items(launch); ++item) {
    Body::run(launch, static_cast<std::uint32_t>(item));
  }
}

#define KVTIER_ENGINE_HOST_FORM(Body, name) const sim::RegisterKernel<&run_on_host<Body>> registered_##Body(#name);
KVTIER_ENGINE_KERNELS(KVTIER_ENGINE_HOST_FORM)
#undef KVTIER_ENGINE_HOST_FORM

}  // namespace
}  // namespace kvtier::engine
