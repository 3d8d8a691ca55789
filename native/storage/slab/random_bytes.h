// Random bytes of the operating system, for store ids and secrets. Any thread.
#pragma once

#include <cstddef>

#include "core/status.h"

namespace kvtier {

// Fails with kIo where the system has no random numbers.
[[nodiscard]] Status random_bytes(void* bytes, std::size_t length);

}  // namespace kvtier
