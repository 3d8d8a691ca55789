// The threads of a warp that work together, on a host: one thread is all of them, in turn. A host form's thread.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/device/launch.h"

namespace kvtier::sim {

class HostLanes {
 public:
  explicit HostLanes(std::uint32_t count) : count_(count) {}

  // A value that every lane has for itself.
  template <typename T>
  class PerLane {
   public:
    T& operator[](std::uint32_t lane) { return values_[lane]; }

   private:
    std::array<T, device::kWarpLanes> values_;
  };

  [[nodiscard]] std::uint32_t count() const { return count_; }

  template <typename Run>
  void each(Run run) const {
    for (std::uint32_t lane = 0; lane < count_; ++lane) run(lane);
  }

  // What the lanes of a warp do by exchanging values, bit by bit of their numbers.
  template <std::uint32_t kMask, typename T>
  void add_over(PerLane<T>& sums) const {
    for (std::uint32_t bit = 1; bit < device::kWarpLanes; bit *= 2) {
      if ((kMask & bit) == 0) continue;
      PerLane<T> before = sums;
      for (std::uint32_t lane = 0; lane < device::kWarpLanes; ++lane) add(sums[lane], before[lane ^ bit]);
    }
  }

 private:
  static void add(std::uint64_t& sum, std::uint64_t more) { sum += more; }
  template <typename Pair>
  static void add(Pair& sum, const Pair& more) {
    sum.first += more.first;
    sum.second += more.second;
  }

  std::uint32_t count_;
};

}  // namespace kvtier::sim
