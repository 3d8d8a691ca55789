// What the control functions share: texts that come in from and go out to C. Any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "support/sim-cuda/functions.h"

#define KVTIER_SIM_CONTROL extern "C" KVTIER_SIM_EXPORT

namespace kvtier::sim {

inline std::string_view view(const char* text) {
  return text == nullptr ? std::string_view() : std::string_view(text);
}

// Returns the whole length, also when only a part of it fits.
inline std::size_t give_text(const std::string& from, char* text, std::size_t capacity) {
  if (text != nullptr && capacity > 0) {
    const std::size_t length = std::min(from.size(), capacity - 1);
    std::memcpy(text, from.data(), length);
    text[length] = '\0';
  }
  return from.size();
}

}  // namespace kvtier::sim
