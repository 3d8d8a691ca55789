// What the host form of a kernel needs in the simulated driver: the shape of a launch, the registration under the
// kernel's name, and the address behind which a device pointer's bytes lie. A host form runs on the simulator's own
// thread, or on the thread of a test that steps it, never on two at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace kvtier::sim {

// A launch is run in parts, in any order, as thread blocks are on a device: each call of the host form does the blocks
// [block_begin, block_end) of the grid, x counted first.
struct LaunchShape {
  unsigned grid_x = 1;
  unsigned grid_y = 1;
  unsigned grid_z = 1;
  unsigned block_x = 1;
  unsigned block_y = 1;
  unsigned block_z = 1;
  unsigned shared_bytes = 0;
  std::uint64_t block_begin = 0;
  std::uint64_t block_end = 1;
};

// `parameters` are as cuLaunchKernel takes them: one pointer a parameter, to the simulator's copy of its value.
using KernelForm = void (*)(const LaunchShape& shape, void** parameters);

}  // namespace kvtier::sim

extern "C" {

// Makes `form` what cuModuleGetFunction finds under `name`; the last registration of a name counts. The sizes are
// needed because a launch runs later than its call and copies the values before it returns.
void kvtier_sim_register_kernel(const char* name, kvtier::sim::KernelForm form, const std::size_t* parameter_bytes,
                                std::size_t parameter_count);

// Where the CPU finds [pointer, pointer + bytes): the hidden alias of device memory, or registered host memory itself.
// In a host form a range that the device may not touch faults the launch (illegal address) and yields scratch memory,
// so that the form can run to its end; elsewhere it yields nullptr. Either way it is recorded as a violation.
void* kvtier_sim_alias(std::uint64_t pointer, std::size_t bytes);

// For a host form, which the CPU lets do what a device does not: says that an instruction moves `unit` bytes at a
// pointer that is no multiple of them. The launch faults (misaligned address), and it is recorded as a violation.
void kvtier_sim_misaligned(std::uint64_t pointer, std::size_t unit);

}  // extern "C"

namespace kvtier::sim {

// Adapts an ordinary function, void(const LaunchShape&, values...), to KernelForm:
//   const RegisterKernel<&gather_host> registered("kvtier_gather");
template <auto kForm>
struct HostForm;

template <typename... Parameters, void (*kForm)(const LaunchShape&, Parameters...)>
struct HostForm<kForm> {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel parameters are copied as bytes");

  static constexpr std::array<std::size_t, sizeof...(Parameters)> kParameterBytes = {sizeof(Parameters)...};

  static void run(const LaunchShape& shape, void** parameters) {
    run_with(shape, parameters, std::index_sequence_for<Parameters...>());
  }

 private:
  template <std::size_t... kIndex>
  static void run_with(const LaunchShape& shape, [[maybe_unused]] void** parameters, std::index_sequence<kIndex...>) {
    kForm(shape, *static_cast<const std::remove_cv_t<Parameters>*>(parameters[kIndex])...);
  }
};

template <auto kForm>
struct RegisterKernel {
  explicit RegisterKernel(const char* name) {
    using Form = HostForm<kForm>;
    kvtier_sim_register_kernel(name, &Form::run, Form::kParameterBytes.data(), Form::kParameterBytes.size());
  }
};

}  // namespace kvtier::sim
