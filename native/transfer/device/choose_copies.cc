// The choices that follow from measured figures.
#include <algorithm>
#include <cstdlib>
#include <optional>

#include "transfer/device/calibrate.h"

namespace kvtier {
namespace {

// What is that much slower counts as equally fast.
constexpr double kEqualShare = 0.97;

using Direction = decltype(CopyFigures::table)::value_type;

unsigned distance(unsigned a, unsigned b) noexcept {
  return a > b ? a - b : b - a;
}

// The strategy's figure in the cell, or in the nearest one that was measured; smaller before larger ones.
std::optional<CopyFigure> figure_near(const Direction& figures, unsigned size, unsigned count, std::size_t strategy) {
  std::optional<CopyFigure> nearest;
  unsigned nearest_distance = 0;
  for (unsigned at_size = 0; at_size < kCopySizeBuckets; ++at_size) {
    for (unsigned at_count = 0; at_count < kCopyCountBuckets; ++at_count) {
      const CopyFigure& figure = figures[at_size][at_count][strategy];
      if (!figure.is_measured()) continue;
      const unsigned from_here = distance(at_size, size) * kCopyCountBuckets + distance(at_count, count);
      if (nearest && from_here >= nearest_distance) continue;
      nearest = figure;
      nearest_distance = from_here;
    }
  }
  return nearest;
}

std::optional<CopyStrategy> fastest(const Direction& figures, unsigned size, unsigned count) {
  std::array<std::optional<CopyFigure>, kCopyStrategyCount> candidates;
  double best = 0;
  for (std::size_t strategy = 0; strategy < kCopyStrategyCount; ++strategy) {
    candidates[strategy] = figure_near(figures, size, count, strategy);
    if (candidates[strategy]) best = std::max(best, candidates[strategy]->gigabytes_per_second);
  }
  std::optional<CopyStrategy> chosen;
  for (std::size_t index = 0; index < kCopyStrategyCount; ++index) {
    const auto& candidate = candidates[index];
    if (!candidate || candidate->gigabytes_per_second < best * kEqualShare) continue;
    const auto strategy = static_cast<CopyStrategy>(index);
    const bool is_better = !chosen || (uses_kernels(strategy) == uses_kernels(*chosen)
                                           ? candidate->cpu_us < candidates[static_cast<std::size_t>(*chosen)]->cpu_us
                                           : uses_kernels(*chosen));
    if (is_better) chosen = strategy;
  }
  return chosen;
}

}  // namespace

CopyChoices choose(const CopyFigures& figures) noexcept {
  CopyChoices choices = CopyChoices::defaults();
  for (std::size_t direction = 0; direction < 2; ++direction) {
    for (unsigned size = 0; size < kCopySizeBuckets; ++size) {
      for (unsigned count = 0; count < kCopyCountBuckets; ++count) {
        const auto chosen = fastest(figures.table[direction], size, count);
        if (chosen) choices.table[direction][size][count] = *chosen;
      }
    }
  }
  return choices;
}

}  // namespace kvtier
