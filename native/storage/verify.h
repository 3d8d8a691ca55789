// The one place that decides whether bytes that came back are the bytes that were stored. It stands alone in a file of
// its own so that a test build can leave the comparison out and prove that the crash tests then fail. Any thread.
#pragma once

#include "digest/payload_checksum.h"

namespace kvtier {

[[nodiscard]] bool checksum_matches(const Checksum& expected, const Checksum& computed) noexcept;

}  // namespace kvtier
