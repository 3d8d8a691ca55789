// Checks of our own promises: they abort with file and line, in release builds too. What the world may do wrong
// (arguments, disks, drivers) is a Status, never a check. Any thread.
#pragma once

namespace kvtier {

[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace kvtier

#define KVTIER_CHECK(condition)                               \
  do {                                                        \
    if (!(condition)) [[unlikely]] {                          \
      ::kvtier::check_failed(#condition, __FILE__, __LINE__); \
    }                                                         \
  } while (false)
