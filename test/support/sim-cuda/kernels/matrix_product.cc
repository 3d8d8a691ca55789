// The host form of the benchmarks' matrix product. A host form's thread.
#include "bench/native/matrix_product.h"

#include "support/sim-cuda/sim_kernel.h"

namespace kvtier::sim {
namespace {

void multiply(const LaunchShape& shape, limits::ProductLaunch launch) {
  for (std::uint64_t block = shape.block_begin; block < shape.block_end; ++block) {
    for (std::uint32_t thread = 0; thread < shape.block_x; ++thread) {
      limits::multiply_tile(launch, static_cast<std::uint32_t>(block) * shape.block_x + thread);
    }
  }
}

const RegisterKernel<&multiply> kProduct(limits::kProductName);

}  // namespace
}  // namespace kvtier::sim
