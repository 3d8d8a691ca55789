// Kernels: the host forms by name, modules, and launches as queued work. The table of host forms has its own mutex, for
// it is filled while libraries load; all else is guarded by the simulator's one.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/sim-cuda/context.h"
#include "support/sim-cuda/memory.h"
#include "support/sim-cuda/operation.h"
#include "support/sim-cuda/sim_kernel.h"

namespace kvtier::sim {

struct KernelEntry {
  KernelForm form = nullptr;
  std::vector<std::size_t> parameter_bytes;
};

[[nodiscard]] std::optional<KernelEntry> find_kernel(const std::string& name);

struct ModuleState {
  std::shared_ptr<ContextState> context;
  std::string text;  // of an image that is PTX
};

struct FunctionState {
  std::shared_ptr<ContextState> context;
  cuda::Module module = nullptr;
  std::string name;
  KernelEntry kernel;
};

// The image is one that a driver of this version and a device of this capability load, or the error they answer.
[[nodiscard]] cuda::Error check_image(const void* image, int driver_version, int capability_major, int capability_minor,
                                      std::string& ptx);

class LaunchOperation final : public Operation {
 public:
  // Copies the parameters' values.
  LaunchOperation(Memory& memory, std::shared_ptr<FunctionState> function, const LaunchShape& shape,
                  void* const* parameters);

  Progress run(Journal& journal) override;
  [[nodiscard]] std::string_view kind() const override { return "kernel"; }
  [[nodiscard]] std::string text() const override;

  // What kvtier_sim_alias() does in a host form.
  [[nodiscard]] void* alias(std::uint64_t pointer, std::size_t bytes);
  // The launch ends with this error when its host form returns; the first one counts.
  void fault(cuda::Error error);
  // The launch whose host form the calling thread is in, or nullptr.
  [[nodiscard]] static LaunchOperation* current();

 private:
  Memory& memory_;
  std::shared_ptr<FunctionState> function_;
  LaunchShape shape_;
  std::vector<std::vector<std::max_align_t>> values_;
  std::vector<void*> parameters_;
  std::vector<LaunchShape> parts_;
  std::size_t next_ = 0;
  cuda::Error fault_ = cuda::Error::kSuccess;
  std::vector<std::vector<std::max_align_t>> scratch_;  // what a form gets instead of memory that it may not touch
};

}  // namespace kvtier::sim
