// A second process that lends device memory of its own to the test, allocated and shared by kvtier. One thread.
#pragma once

#include <cstdint>

#include "memory/device/device_memory.h"
#include "native/support/sim-cuda/peer.h"

namespace kvtier::sim {

inline constexpr std::size_t kLentBytes = std::size_t{1} << 20;

// Orders that a lender takes.
inline constexpr unsigned char kHoldsNines = 1;  // well when every byte of the first allocation is 9
inline constexpr unsigned char kFree = 2;        // frees both allocations, which the importer has to hear of

class Lender : public Peer {
 public:
  Lender() : Peer("KVTIER_LENDER", "1") {
    REQUIRE(receive(out(), first));
    REQUIRE(receive(out(), second));
  }

  // Two allocations of kLentBytes on device 0, which hold 1 and 2.
  IpcRange first;
  IpcRange second;
};

}  // namespace kvtier::sim
