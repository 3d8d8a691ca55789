// The body of a matrix product, the work of a GPU beside which copies are measured: for a GPU, and for the simulated
// driver's host form. Plain, and not the fastest: it keeps every multiprocessor and the device's memory busy. A
// kernel's thread.
#pragma once

#include <cstdint>

#include "kernels/device/device_ptr.h"

namespace limits {

inline constexpr const char* kProductName = "kvtier_bench_product";
inline constexpr std::uint32_t kProductTile = 4;       // elements of a thread, each way
inline constexpr std::uint32_t kProductThreads = 256;  // of a thread block

// Square matrices of floats, row by row, of a multiple of kProductTile rows.
struct ProductLaunch {
  std::uint64_t left;
  std::uint64_t right;
  std::uint64_t result;
  std::uint32_t size;
};

// The tile-th tile of the result; neighbouring threads have neighbouring columns.
KVTIER_DEVICE void multiply_tile(const ProductLaunch& launch, std::uint32_t tile) {
  const std::uint32_t tiles = launch.size / kProductTile;
  if (tile >= tiles * tiles) return;
  const std::uint64_t row = std::uint64_t{tile / tiles} * kProductTile;
  const std::uint64_t column = std::uint64_t{tile % tiles} * kProductTile;
  const std::uint64_t pitch = launch.size;
  const std::uint64_t rows_bytes = sizeof(float) * kProductTile * pitch;
  const auto* left = kvtier::device::device_ptr<const float, 4>(launch.left + sizeof(float) * row * pitch, rows_bytes);
  const auto* right = kvtier::device::device_ptr<const float, 4>(launch.right, sizeof(float) * pitch * pitch) + column;
  auto* result = kvtier::device::device_ptr<float, 4>(launch.result + sizeof(float) * row * pitch, rows_bytes) + column;
  float sums[kProductTile][kProductTile] = {};
  for (std::uint64_t k = 0; k < pitch; ++k) {
    KVTIER_UNROLL
    for (std::uint32_t i = 0; i < kProductTile; ++i) {
      KVTIER_UNROLL
      for (std::uint32_t j = 0; j < kProductTile; ++j) sums[i][j] += left[i * pitch + k] * right[k * pitch + j];
    }
  }
  KVTIER_UNROLL
  for (std::uint32_t i = 0; i < kProductTile; ++i) {
    KVTIER_UNROLL
    for (std::uint32_t j = 0; j < kProductTile; ++j) result[i * pitch + j] = sums[i][j];
  }
}

}  // namespace limits
