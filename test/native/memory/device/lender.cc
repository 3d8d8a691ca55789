// The other process's half of lender.h: this program, before it runs any test.
#if defined(__linux__)
#include "native/memory/device/lender.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "support/sim-cuda/sim_library.h"

namespace {

using namespace kvtier;
using sim::kLentBytes;
using sim::SimDriver;

std::optional<DeviceMemory> lend(const std::shared_ptr<const CudaContext>& context, unsigned char value) {
  auto memory = DeviceMemory::allocate(context, kLentBytes);
  if (!memory) return std::nullopt;
  const std::vector<unsigned char> bytes(kLentBytes, value);
  if (SimDriver::get().write(memory.value().address(), bytes.data(), kLentBytes) != 1) return std::nullopt;
  const auto range = memory.value().share();
  if (!range || !sim::send(STDOUT_FILENO, range.value())) return std::nullopt;
  return std::move(memory).value();
}

bool holds_nines(const DeviceMemory& memory) {
  std::vector<unsigned char> bytes(kLentBytes);
  return SimDriver::get().read(memory.address(), bytes.data(), kLentBytes) == 1 &&
         std::ranges::all_of(bytes, [](unsigned char byte) { return byte == 9; });
}

int play() {
  auto context = CudaContext::retain(CudaDriver::get(SimDriver::get().library.path()), 0);
  if (!context) return 2;
  std::optional<DeviceMemory> first = lend(context.value(), 1);
  std::optional<DeviceMemory> second = lend(context.value(), 2);
  if (!first || !second) return 3;
  unsigned char order = 0;
  while (sim::receive(STDIN_FILENO, order)) {
    bool well = order == sim::kHoldsNines && holds_nines(*first);
    if (order == sim::kFree) {
      first.reset();
      second.reset();
      well = SimDriver::get().violations() > 0;
      SimDriver::get().clear_violations();
    }
    if (!sim::send(STDOUT_FILENO, static_cast<unsigned char>(well ? 1 : 0))) return 4;
  }
  first.reset();
  second.reset();
  return SimDriver::get().violations() == 0 && SimDriver::get().count("allocations") == 0 ? 0 : 5;
}

[[maybe_unused]] const bool played = [] {
  if (std::getenv("KVTIER_LENDER") != nullptr) ::_exit(play());
  return false;
}();

}  // namespace
#endif
