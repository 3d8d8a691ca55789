// Devices and their primary contexts. Guarded by the simulator's one mutex.
#pragma once

#include <cstddef>
#include <memory>
#include <set>

#include "platform/cuda/cuda_types.h"

namespace kvtier::sim {

struct StreamState;

struct ContextState {
  cuda::Context handle = nullptr;
  int ordinal = 0;
  unsigned retains = 0;
  cuda::Error error = cuda::Error::kSuccess;  // once set, the answer to every call
  bool destroyed = false;
  std::set<int> peers;  // ordinals whose memory its kernels may touch
  std::shared_ptr<StreamState> legacy;
};

struct DeviceState {
  int physical = 0;
  cuda::Error lost = cuda::Error::kSuccess;
  std::shared_ptr<ContextState> primary;
};

// The same in every process, so that processes can tell that they mean the same device.
[[nodiscard]] cuda::Uuid uuid_of(int physical);

}  // namespace kvtier::sim
