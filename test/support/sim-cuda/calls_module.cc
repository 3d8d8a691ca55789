// The driver's calls about modules and kernels. Any thread.
#include <algorithm>
#include <utility>

#include "support/sim-cuda/driver_state.h"

namespace kvtier::sim::calls {

using cuda::Error;
using cuda::Stream;

Error module_load_data(cuda::Module* module, const void* image) {
  Call call(Function::module_load_data, Needs::kContext);
  if (!call) return call.error();
  if (module == nullptr) return Error::kInvalidValue;
  const Settings& settings = call.state().settings;
  auto made = std::make_shared<ModuleState>();
  made->context = call.context();
  const Error error =
      check_image(image, settings.version, settings.capability_major, settings.capability_minor, made->text);
  if (error != Error::kSuccess) return error;
  *module = call.state().modules.add(std::move(made));
  return Error::kSuccess;
}

Error module_unload(cuda::Module module) {
  Call call(Function::module_unload, Needs::kContext);
  if (!call) return call.error();
  DriverState& state = call.state();
  if (!state.modules.find(module)) return Error::kInvalidHandle;
  std::vector<cuda::Function> ended;
  for (const auto& [number, function] : state.functions.all()) {
    if (function->module == module) ended.push_back(reinterpret_cast<cuda::Function>(number));
  }
  for (const cuda::Function function : ended) state.functions.remove(function);
  state.modules.remove(module);
  return Error::kSuccess;
}

Error module_get_function(cuda::Function* function, cuda::Module module, const char* name) {
  Call call(Function::module_get_function, Needs::kContext);
  if (!call) return call.error();
  if (function == nullptr || name == nullptr) return Error::kInvalidValue;
  const std::shared_ptr<ModuleState> found = call.state().modules.find(module);
  if (!found) return Error::kInvalidHandle;
  std::optional<KernelEntry> kernel = find_kernel(name);
  const bool in_image = found->text.empty() || found->text.find(name) != std::string::npos;
  if (!kernel || !in_image) return Error::kNotFound;
  auto made = std::make_shared<FunctionState>();
  made->context = found->context;
  made->module = module;
  made->name = name;
  made->kernel = std::move(*kernel);
  *function = call.state().functions.add(std::move(made));
  return Error::kSuccess;
}

Error launch_kernel(cuda::Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                    unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters,
                    void** extra) {
  Call call(Function::launch_kernel, Needs::kContext);
  if (!call) return call.error();
  const std::shared_ptr<FunctionState> kernel = call.state().functions.find(function);
  if (!kernel) {
    call.violation("the function is none, or its module was unloaded");
    return Error::kInvalidHandle;
  }
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (kernel->context != found->context || found->context != call.context()) return Error::kInvalidHandle;
  constexpr unsigned kGridLimit = 65535;
  constexpr unsigned kThreadLimit = 1024;
  constexpr unsigned kSharedLimit = 48U << 10U;
  const LaunchShape shape{grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes};
  const std::uint64_t threads = std::uint64_t{block_x} * block_y * block_z;
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || threads == 0 || threads > kThreadLimit || block_z > 64 ||
      grid_x > 0x7FFFFFFF || grid_y > kGridLimit || grid_z > kGridLimit || shared_bytes > kSharedLimit) {
    return Error::kInvalidValue;
  }
  if (extra != nullptr || (parameters == nullptr && !kernel->kernel.parameter_bytes.empty())) {
    return Error::kInvalidValue;
  }
  call.scheduler().enqueue(*found, std::make_unique<LaunchOperation>(call.state().memory, kernel, shape, parameters));
  return Error::kSuccess;
}

}  // namespace kvtier::sim::calls
