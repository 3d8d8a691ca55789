// The matrix product as nvcc compiles it.
#include "matrix_product.h"

extern "C" __global__ void __launch_bounds__(limits::kProductThreads)
    kvtier_bench_product(const __grid_constant__ limits::ProductLaunch launch) {
  limits::multiply_tile(launch, blockIdx.x * blockDim.x + threadIdx.x);
}
