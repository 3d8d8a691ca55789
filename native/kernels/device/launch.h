// What a launch of a kernel is given: one structure, by value, so that nothing on the host has to outlive the call.
// Shared by the host's code and the kernels. Plain data. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/device_code.h"

namespace kvtier::device {

// What every driver lets a launch have.
inline constexpr std::size_t kParameterBytes = 4096;

inline constexpr std::uint32_t kWarpLanes = 32;
inline constexpr std::uint32_t kCopyThreads = 256;    // of a thread block
inline constexpr std::uint32_t kMostBlocks = 65'535;  // of a launch: so 32 bits number its threads

// A thread reads this many units before it writes them, so that so many reads are under way at once.
inline constexpr std::uint32_t kUnitsInFlight = 8;

// Copies `slots` x `fragments` runs. A run is copied in pieces, each by `lanes` neighbouring threads.
struct CopyLaunch {
  std::uint64_t host_base = 0;
  std::uint64_t host_stride = 0;
  std::uint64_t device_step = 0;
  std::uint64_t run_bytes = 0;
  std::uint32_t fragments = 0;
  std::uint32_t pieces = 0;  // of a run
  std::uint32_t items = 0;   // pieces in all; below 2^31
  std::uint16_t lanes = 0;   // a power of 2, a warp's at most
  std::uint16_t to_device = 0;

  static constexpr std::size_t kTableWords = (kParameterBytes - 48) / 8;
  // Two words a fragment (the device's address of slot 0's run, its place in a host slot), then one a slot (the
  // device's in the low half, the host's in the high half).
  std::uint64_t table[kTableWords];
};
static_assert(sizeof(CopyLaunch) == kParameterBytes);

// A payload whose leaves are hashed.
struct HashedPayload {
  std::uint64_t payload = 0;
  std::uint64_t part_bytes = 0;
  std::uint64_t seed = 0;
  std::uint64_t result = 0;
  std::uint32_t leaves_of_part = 0;
  std::uint32_t end = 0;  // leaves of this payload and those before it; below 2^31
};

struct HashLaunch {
  static constexpr std::size_t kPayloads = (kParameterBytes - 8) / sizeof(HashedPayload);
  std::uint32_t payloads = 0;
  std::uint32_t leaves = 0;
  HashedPayload payload[kPayloads];
};
static_assert(sizeof(HashLaunch) <= kParameterBytes);

// How many bytes one piece of a run has.
KVTIER_DEVICE std::uint32_t piece_bytes_of(std::uint32_t unit_bytes, std::uint32_t lanes) noexcept {
  return unit_bytes * lanes * kUnitsInFlight;
}

}  // namespace kvtier::device
