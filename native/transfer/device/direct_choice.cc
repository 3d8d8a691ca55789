#include "transfer/device/direct_choice.h"

#include <cmath>

#include "core/check.h"

namespace kvtier {
namespace {

// What is that much slower counts as equally fast.
constexpr double kEqualShare = 0.97;

// "4.25", with three digits that count, but no more than five after the point. By hand: the library's functions write
// what the process's locale has in the point's place.
std::string gigabytes(double per_second) {
  std::size_t decimals = 0;
  for (double scaled = per_second; scaled < 100 && decimals < 5; scaled *= 10) ++decimals;
  std::string digits = std::to_string(std::llround(per_second * std::pow(10.0, static_cast<double>(decimals))));
  if (decimals == 0) return digits;
  if (digits.size() <= decimals) digits.insert(0, decimals + 1 - digits.size(), '0');
  return digits.insert(digits.size() - decimals, 1, '.');
}

std::string name_of(DirectLoad load, const DirectFigures& figures) {
  switch (load) {
    case DirectLoad::kBlock:
      return "one block of " + std::to_string(figures.block_bytes >> 10) + " KiB";
    case DirectLoad::kRun:
      return "a run of " + std::to_string(figures.run_bytes >> 10) + " KiB";
    case DirectLoad::kScattered:
      return "a run into scattered slots";
  }
  KVTIER_CHECK(false);
}

}  // namespace

DirectLoad direct_load_of(std::uint32_t blocks, std::uint32_t pieces, std::uint32_t most_blocks) noexcept {
  // Nearer to one than to the most, as factors go.
  const auto is_nearer_to_one = [](std::uint64_t count, std::uint64_t most) { return count * count < most; };
  if (blocks <= 1 || is_nearer_to_one(blocks, most_blocks)) return DirectLoad::kBlock;
  return pieces <= 1 || is_nearer_to_one(pieces, blocks) ? DirectLoad::kRun : DirectLoad::kScattered;
}

DirectChoice choose_direct(const DirectFigures& figures) noexcept {
  DirectChoice choice = kNeverDirect;
  for (std::size_t load = 0; load < kDirectLoadCount; ++load) {
    const DirectFigure& figure = figures.loads[load];
    choice[load] =
        figure.is_measured() && figure.direct_gigabytes_per_second >= figure.staged_gigabytes_per_second * kEqualShare;
  }
  return choice;
}

std::string why_staged(const DirectFigures& figures) {
  const DirectChoice choice = choose_direct(figures);
  std::string text;
  for (std::size_t load = 0; load < kDirectLoadCount; ++load) {
    // A run of one block is no other load.
    const bool is_other = load == 0 || figures.run_bytes != figures.block_bytes;
    if (choice[load] || !is_other) continue;
    const DirectFigure& figure = figures.loads[load];
    text += text.empty() ? "the way through host memory was faster: " : ", ";
    text += gigabytes(figure.staged_gigabytes_per_second) + " against " +
            gigabytes(figure.direct_gigabytes_per_second) + " GB/s for " +
            name_of(static_cast<DirectLoad>(load), figures);
  }
  return text;
}

}  // namespace kvtier
