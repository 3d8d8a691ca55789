// System calls that a signal interrupts are made again: no caller of platform/ sees EINTR. Any thread.
#pragma once

#include <cerrno>

namespace kvtier {

// For calls that return -1 and set errno.
template <typename Call>
[[nodiscard]] auto retried(Call call) noexcept {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// For calls that return 0 or an errno value.
template <typename Call>
[[nodiscard]] int retried_error(Call call) noexcept {
  for (;;) {
    const int error = call();
    if (error != EINTR) return error;
  }
}

}  // namespace kvtier
