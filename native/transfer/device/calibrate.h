// How fast each strategy copies on this device, measured in a moment, and the choices that follow from it.
// measure_copies(): any thread, which it blocks; nothing else uses the copier meanwhile. choose(): pure.
#pragma once

#include <array>
#include <cstdint>

#include "core/status.h"
#include "transfer/device/copier.h"

namespace kvtier {

struct CopyFigure {
  double gigabytes_per_second = 0;  // 1e9 bytes, from the first copy's start to the last one's end; 0: not measured
  double cpu_us = 0;                // of the calling thread, to queue them

  [[nodiscard]] bool is_measured() const noexcept { return gigabytes_per_second > 0; }
};

struct CopyFigures {
  using PerStrategy = std::array<CopyFigure, kCopyStrategyCount>;
  // [to_device][size][count][strategy], in the buckets of CopyChoices; measured at the size and the number with which a
  // bucket begins. Most cells are not measured.
  std::array<std::array<std::array<PerStrategy, kCopyCountBuckets>, kCopySizeBuckets>, 2> table{};
  // [to_device][strategy]: why a strategy was left out; OK for the others.
  std::array<std::array<Status, kCopyStrategyCount>, 2> left_out;
};

struct CopyMeasureOptions {
  std::uint64_t cell_bytes = std::uint64_t{4}
                             << 20;  // of one measurement at most; so much device and host memory is taken
  unsigned rounds = 3;               // that count, after one that does not
  unsigned budget_ms = 300;          // later no further cell is begun
};

// Measures every strategy that can be used, in both directions, over some cells of the table: blocks of layers, in runs
// of four blocks whose slots follow each other. A strategy that fails is left out. Fails where the memory, the stream
// or the events cannot be had, and with kDeviceLost.
[[nodiscard]] Result<CopyFigures> measure_copies(Copier& copier, const CopyMeasureOptions& options = {});

// For each cell the fastest strategy; among those within 3 % of it one that leaves the GPU's multiprocessors alone if
// there is one, and then the one that costs the CPU least. A strategy's speed in a cell that was not measured is that
// of the nearest cell where it was: of the nearest size, and there of the nearest number. A direction without figures
// has the default choices.
[[nodiscard]] CopyChoices choose(const CopyFigures& figures) noexcept;

}  // namespace kvtier
