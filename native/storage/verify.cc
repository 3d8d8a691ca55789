#include "storage/verify.h"

namespace kvtier {

#if defined(KVTIER_UNVERIFIED)
// The control build: the crash and fault tests must fail with it.
bool checksum_matches(const Checksum& /*expected*/, const Checksum& /*computed*/) noexcept {
  return true;
}
#else
bool checksum_matches(const Checksum& expected, const Checksum& computed) noexcept {
  return expected == computed;
}
#endif

}  // namespace kvtier
