// The functions that the simulator exports, from kvtier's one list of them: an enumeration, what is known of each, and
// their declarations under the exported names. Constant data; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "platform/cuda/cuda_functions.h"

#define KVTIER_SIM_EXPORT __attribute__((visibility("default")))

namespace kvtier::sim {

#define KVTIER_SIM_ENUMERATOR(member, base, symbol, version, ...) member,
enum class Function : std::uint8_t {
  KVTIER_CUDA_REQUIRED(KVTIER_SIM_ENUMERATOR) KVTIER_CUDA_OPTIONAL(KVTIER_SIM_ENUMERATOR) get_proc_address
};
#undef KVTIER_SIM_ENUMERATOR

inline constexpr std::size_t kFunctionCount = static_cast<std::size_t>(Function::get_proc_address) + 1;

struct FunctionInfo {
  std::string_view base;
  std::string_view symbol;
  int version;
};

#define KVTIER_SIM_INFO(member, base, symbol, version, ...) FunctionInfo{base, symbol, version},
inline constexpr std::array<FunctionInfo, kFunctionCount> kFunctions = {{KVTIER_CUDA_REQUIRED(
    KVTIER_SIM_INFO) KVTIER_CUDA_OPTIONAL(KVTIER_SIM_INFO) FunctionInfo{"cuGetProcAddress", "cuGetProcAddress_v2", 0}}};
#undef KVTIER_SIM_INFO

constexpr const FunctionInfo& info_of(Function function) {
  return kFunctions[static_cast<std::size_t>(function)];
}

// Each function is defined under its name in the table; what the loader sees is the driver's name. A definition whose
// signature is another one leaves the declared one undefined, and the library does not link.
namespace calls {
#define KVTIER_SIM_DECLARE(member, base, symbol, version, ...) \
  KVTIER_SIM_EXPORT cuda::signatures::member member __asm__(symbol);
KVTIER_CUDA_REQUIRED(KVTIER_SIM_DECLARE)
KVTIER_CUDA_OPTIONAL(KVTIER_SIM_DECLARE)
#undef KVTIER_SIM_DECLARE
}  // namespace calls

}  // namespace kvtier::sim
