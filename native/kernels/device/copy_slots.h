// The body of the copying kernel, for a GPU and for the simulated driver's host form. `Lanes` are the threads that copy
// a piece together: count() of them, of which each() runs one on a GPU and all, one after the other, on a host. A
// kernel's thread.
#pragma once

#include "kernels/device/device_ptr.h"
#include "kernels/device/launch.h"

namespace kvtier::device {

// Neighbouring lanes move neighbouring units. Everything is read before anything is written.
template <unsigned kUnitBytes, typename Lanes>
KVTIER_DEVICE void copy_piece(std::byte* target, const std::byte* source, std::uint32_t bytes, bool to_device,
                              const Lanes& lanes) {
  lanes.each([&](std::uint32_t lane) {
    const std::uint32_t first = lane * kUnitBytes;
    const std::uint32_t step = lanes.count() * kUnitBytes;
    Unit<kUnitBytes> held[kUnitsInFlight];
    KVTIER_UNROLL
    for (std::uint32_t i = 0; i < kUnitsInFlight; ++i) {
      if (const std::uint32_t at = first + i * step; at < bytes) held[i] = load_streaming<kUnitBytes>(source + at);
    }
    KVTIER_UNROLL
    for (std::uint32_t i = 0; i < kUnitsInFlight; ++i) {
      const std::uint32_t at = first + i * step;
      if (at >= bytes) continue;
      if (to_device) {
        store<kUnitBytes>(target + at, held[i]);
      } else {
        store_streaming<kUnitBytes>(target + at, held[i]);
      }
    }
  });
}

// The pieces `first`, `first` + `stride` and so on of a launch. Neighbouring pieces are of one run.
template <unsigned kUnitBytes, typename Lanes>
KVTIER_DEVICE void copy_pieces(const CopyLaunch& launch, std::uint32_t first, std::uint32_t stride,
                               const Lanes& lanes) {
  const std::uint32_t piece_bytes = piece_bytes_of(kUnitBytes, lanes.count());
  for (std::uint32_t item = first; item < launch.items; item += stride) {
    const std::uint32_t run = item / launch.pieces;
    const std::uint32_t fragment = run % launch.fragments;
    const std::uint64_t slots = launch.table[2 * launch.fragments + run / launch.fragments];
    const std::uint64_t offset = std::uint64_t{item % launch.pieces} * piece_bytes;
    const std::uint64_t left = launch.run_bytes - offset;
    const std::uint32_t bytes = left < piece_bytes ? static_cast<std::uint32_t>(left) : piece_bytes;
    const std::uint64_t on_device =
        launch.table[2 * fragment] + launch.device_step * static_cast<std::uint32_t>(slots) + offset;
    const std::uint64_t on_host =
        launch.host_base + launch.host_stride * (slots >> 32) + launch.table[2 * fragment + 1] + offset;
    const bool to_device = launch.to_device != 0;
    copy_piece<kUnitBytes>(device_ptr<std::byte, kUnitBytes>(to_device ? on_device : on_host, bytes),
                           device_ptr<const std::byte, kUnitBytes>(to_device ? on_host : on_device, bytes), bytes,
                           to_device, lanes);
  }
}

}  // namespace kvtier::device
