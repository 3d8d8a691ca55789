// A fresh simulated machine for tests of what uses device memory through kvtier's own driver, contexts and memory. At
// its end nothing of kvtier's may be left on it. One thread.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "platform/cuda/cuda_context.h"
#include "support/sim-cuda/sim_library.h"

namespace kvtier::sim {

class DeviceWorld {
 public:
  explicit DeviceWorld(const char* settings = nullptr)
      : sim(SimDriver::get()), cuda(sim.cuda), driver(started()), contexts_(driver.devices().size()) {
    sim.reset(settings);
    REQUIRE(cuda.init(0) == cuda::Error::kSuccess);
  }
  ~DeviceWorld() {
    // The test's own memory, that of an engine.
    if (const auto current = CurrentContext::enter(*context()); current) {
      for (const cuda::DevicePtr pointer : engine_) (void)cuda.mem_free(pointer);
    }
    if (!may_leak) {
      for (const char* what : {"allocations", "registrations", "imports"}) {
        CAPTURE(what);
        CHECK(sim.count(what) == 0);
      }
      contexts_.clear();
      CHECK(sim.count("contexts") == 0);
    }
    const std::size_t left = sim.violations();
    const std::string first = left > 0 ? sim.violation_text() : std::string();
    CHECK_MESSAGE(left == 0, first);
    contexts_.clear();
    sim.reset(nullptr);
  }
  DeviceWorld(const DeviceWorld&) = delete;
  DeviceWorld& operator=(const DeviceWorld&) = delete;

  [[nodiscard]] const std::shared_ptr<const CudaContext>& context(int ordinal = 0) {
    auto& held = contexts_[static_cast<std::size_t>(ordinal)];
    if (held == nullptr) {
      auto made = CudaContext::retain(driver, ordinal);
      REQUIRE(made.is_ok());
      held = std::move(made).value();
    }
    return held;
  }

  // An engine's memory, which is freed when the world ends.
  [[nodiscard]] cuda::DevicePtr allocate(std::size_t bytes, int ordinal = 0) {
    const auto current = CurrentContext::enter(*context(ordinal));
    REQUIRE(current.is_ok());
    cuda::DevicePtr pointer = 0;
    REQUIRE(cuda.mem_alloc(&pointer, bytes) == cuda::Error::kSuccess);
    engine_.push_back(pointer);
    return pointer;
  }
  void free(cuda::DevicePtr pointer) {
    const auto current = CurrentContext::enter(*context());
    REQUIRE(current.is_ok());
    REQUIRE(cuda.mem_free(pointer) == cuda::Error::kSuccess);
    std::erase(engine_, pointer);
  }

  void fill(cuda::DevicePtr pointer, std::size_t bytes, unsigned char value) const {
    const std::vector<unsigned char> values(bytes, value);
    REQUIRE(sim.write(pointer, values.data(), bytes) == 1);
  }
  // Whether every byte there has the value.
  [[nodiscard]] bool holds(cuda::DevicePtr pointer, std::size_t bytes, unsigned char value) const {
    std::vector<unsigned char> values(bytes);
    REQUIRE(sim.read(pointer, values.data(), bytes) == 1);
    return values == std::vector<unsigned char>(bytes, value);
  }

  // Runs `use` once for each call of these functions that it makes, with that call answering 999 (unknown), and checks
  // that `use` then says false and that nothing is left. Returns how many failures that were.
  template <typename Use>
  unsigned fail_each(std::initializer_list<const char*> functions, Use use) {
    unsigned failures = 0;
    for (const char* function : functions) {
      CAPTURE(function);
      const std::uint64_t before = sim.calls(function);
      CHECK(use());
      const std::uint64_t calls = sim.calls(function) - before;
      CHECK(calls > 0);
      for (std::uint64_t nth = 1; nth <= calls; ++nth, ++failures) {
        CAPTURE(nth);
        const std::uint64_t allocations = sim.count("allocations");
        sim.fail_call(function, nth, static_cast<int>(cuda::Error::kUnknown), 1);
        CHECK_FALSE(use());
        CHECK(sim.count("allocations") == allocations);
        CHECK(sim.count("registrations") == 0);
        CHECK(sim.count("imports") == 0);
      }
    }
    return failures;
  }

  const SimDriver& sim;
  const cuda::Functions& cuda;
  const CudaDriver& driver;
  // For tests in which calls that give something back fail.
  bool may_leak = false;

 private:
  static const CudaDriver& started() {
    static const CudaDriver& driver = [&]() -> const CudaDriver& {
      SimDriver::get().reset(nullptr);
      return CudaDriver::get(SimDriver::get().library.path());
    }();
    return driver;
  }

  std::vector<std::shared_ptr<const CudaContext>> contexts_;
  std::vector<cuda::DevicePtr> engine_;
};

[[nodiscard]] inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace kvtier::sim
