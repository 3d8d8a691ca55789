// A range of memory that the simulated driver knows: device memory, device memory imported from another process, or
// registered host memory. Regions are shared by what names them; all is guarded by the simulator's one mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "platform/cuda/cuda_types.h"
#include "support/sim-cuda/mapping.h"

namespace kvtier::sim {

struct ContextState;

struct Region {
  enum class Kind : std::uint8_t { kDevice, kImported, kPinned };

  Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  [[nodiscard]] bool is_device() const { return kind != Kind::kPinned; }
  // Device memory that another process has freed, or whose owner is dead.
  [[nodiscard]] bool is_orphan() const;
  // For messages: "4096 bytes of device 0".
  [[nodiscard]] std::string text() const;

  Kind kind = Kind::kDevice;
  std::uint64_t id = 0;
  std::shared_ptr<ContextState> context;  // where it was allocated, imported or registered
  int ordinal = 0;                        // of the device that holds it
  cuda::DevicePtr address = 0;            // what programs name it by
  cuda::DevicePtr mapped_address = 0;     // of host memory: its address on the device, or 0
  std::byte* alias = nullptr;             // where the CPU finds the bytes
  std::size_t bytes = 0;
  bool gone = false;   // freed, closed or unregistered
  unsigned uses = 0;   // pieces of queued work that name it
  unsigned pins = 0;   // holds of the simulated cuFile
  std::string holder;  // of the last pin

  unsigned register_flags = 0;  // host memory
  bool ipc_capable = true;      // device memory
  DeviceBytes memory;           // device and imported memory

  // Imported memory.
  int owner = 0;  // process id
  Fd owner_process;
  std::uint64_t file_number = 0;
  unsigned opens = 0;
};

// A piece of queued work's hold on a region.
class Use {
 public:
  Use() = default;
  explicit Use(std::shared_ptr<Region> region) : region_(std::move(region)) {
    if (region_) ++region_->uses;
  }
  ~Use() {
    if (region_) --region_->uses;
  }
  Use(Use&& other) noexcept : region_(std::move(other.region_)) { other.region_ = nullptr; }
  Use& operator=(Use&& other) noexcept {
    std::swap(region_, other.region_);
    return *this;
  }

  [[nodiscard]] Region* get() const { return region_.get(); }

 private:
  std::shared_ptr<Region> region_;
};

// One side of a copy: bytes in a region, or in host memory that the driver does not know.
struct Place {
  Use region;
  std::byte* bytes = nullptr;

  [[nodiscard]] bool is_pageable() const { return region.get() == nullptr; }
  [[nodiscard]] bool is_device() const { return !is_pageable() && region.get()->is_device(); }
};

}  // namespace kvtier::sim
