// What of the driver's functions fake_driver.cc does not define: each of them does nothing and succeeds. No test calls
// them; they are there to be found.
#include "platform/cuda/cuda_functions.h"

extern "C" int kvtier_fake_nothing() {
  return 0;
}

namespace kvtier::fake {

// Weak: the linker takes fake_driver.cc's where it has one.
#define KVTIER_FAKE_STUB(member, base, symbol, version, ...) \
  int member() __asm__(symbol) __attribute__((weak, alias("kvtier_fake_nothing")));
KVTIER_CUDA_REQUIRED(KVTIER_FAKE_STUB)
KVTIER_CUDA_OPTIONAL(KVTIER_FAKE_STUB)
#undef KVTIER_FAKE_STUB

}  // namespace kvtier::fake
