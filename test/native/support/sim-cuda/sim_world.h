// What the simulator's own tests share: a fresh simulated machine with a current context, and the few steps that every
// one of them needs. One thread.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstddef>
#include <string>
#include <vector>

#include "support/sim-cuda/sim_library.h"

namespace kvtier::sim {

using cuda::Error;

// Host memory that is registered with the driver for the life of the object.
class Pinned {
 public:
  explicit Pinned(std::size_t bytes, unsigned char value = 0,
                  unsigned flags = cuda::kHostRegisterPortable | cuda::kHostRegisterDeviceMap)
      : bytes_(bytes, value) {
    REQUIRE(SimDriver::get().cuda.mem_host_register(bytes_.data(), bytes, flags) == Error::kSuccess);
  }
  ~Pinned() { (void)SimDriver::get().cuda.mem_host_unregister(bytes_.data()); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  [[nodiscard]] unsigned char* data() { return bytes_.data(); }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] unsigned char& operator[](std::size_t index) { return bytes_[index]; }
  [[nodiscard]] cuda::DevicePtr address() { return reinterpret_cast<cuda::DevicePtr>(bytes_.data()); }

  // How many of its bytes hold the value.
  [[nodiscard]] std::size_t count(unsigned char value) const {
    std::size_t found = 0;
    for (const unsigned char byte : bytes_) found += byte == value ? 1U : 0U;
    return found;
  }

 private:
  std::vector<unsigned char> bytes_;
};

// A machine after cuInit, with the first device's context current. At its end no violation may be left that the test
// did not take.
class World {
 public:
  explicit World(const char* settings = nullptr) : sim(SimDriver::get()), cuda(sim.cuda) {
    sim.reset(settings);
    REQUIRE(cuda.init(0) == Error::kSuccess);
    context = retain(0);
    REQUIRE(cuda.ctx_set_current(context) == Error::kSuccess);
  }
  ~World() {
    const std::size_t left = sim.violations();
    const std::string first = left > 0 ? sim.violation_text() : std::string();
    sim.reset(nullptr);
    CHECK_MESSAGE(left == 0, first);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] cuda::Context retain(int ordinal) const {
    cuda::Context made = nullptr;
    REQUIRE(cuda.device_primary_ctx_retain(&made, ordinal) == Error::kSuccess);
    return made;
  }

  [[nodiscard]] cuda::DevicePtr allocate(std::size_t bytes) const {
    cuda::DevicePtr pointer = 0;
    REQUIRE(cuda.mem_alloc(&pointer, bytes) == Error::kSuccess);
    return pointer;
  }

  // Device memory that holds this value.
  [[nodiscard]] cuda::DevicePtr allocate(std::size_t bytes, unsigned char value) const {
    const cuda::DevicePtr pointer = allocate(bytes);
    fill(pointer, bytes, value);
    return pointer;
  }

  void fill(cuda::DevicePtr pointer, std::size_t bytes, unsigned char value) const {
    const std::vector<unsigned char> values(bytes, value);
    REQUIRE(sim.write(pointer, values.data(), bytes) == 1);
  }

  [[nodiscard]] std::vector<unsigned char> read(cuda::DevicePtr pointer, std::size_t bytes) const {
    std::vector<unsigned char> values(bytes);
    REQUIRE(sim.read(pointer, values.data(), bytes) == 1);
    return values;
  }

  [[nodiscard]] cuda::Stream stream(unsigned flags = cuda::kStreamNonBlocking) const {
    cuda::Stream made = nullptr;
    REQUIRE(cuda.stream_create_with_priority(&made, flags, 0) == Error::kSuccess);
    return made;
  }

  [[nodiscard]] cuda::Event event(unsigned flags = cuda::kEventDisableTiming) const {
    cuda::Event made = nullptr;
    REQUIRE(cuda.event_create(&made, flags) == Error::kSuccess);
    return made;
  }

  // Takes the only violation there is.
  [[nodiscard]] std::string violation() const {
    REQUIRE(sim.violations() == 1);
    const std::string text = sim.violation_text();
    sim.clear_violations();
    return text;
  }

  const SimDriver& sim;
  const cuda::Functions& cuda;
  cuda::Context context = nullptr;
};

[[nodiscard]] inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

[[nodiscard]] inline std::vector<unsigned char> bytes_of(std::size_t count, unsigned char value) {
  return std::vector<unsigned char>(count, value);
}

}  // namespace kvtier::sim
