// The engine's kernels as nvcc compiles them: each is a body of decode_kernels.h, whose items its threads share out.
#include "gpu/engine/decode_kernels.h"

#define KVTIER_ENGINE_KERNEL(Body, name)                                                         \
  extern "C" __global__ void name(const __grid_constant__ kvtier::engine::DecodeLaunch launch) { \
    const unsigned item = blockIdx.x * blockDim.x + threadIdx.x;                                 \
    if (item < kvtier::engine::Body::items(launch)) kvtier::engine::Body::run(launch, item);     \
  }

KVTIER_ENGINE_KERNELS(KVTIER_ENGINE_KERNEL)
