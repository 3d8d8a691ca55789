// Room in a vector, or a Status: the layers below the binding have no exceptions, which std::vector::reserve() would
// throw. For what is as large as a table of a disk; any thread.
#pragma once

#include <cstddef>
#include <new>
#include <string>
#include <vector>

#include "core/status.h"

namespace kvtier {

// Fails with kOutOfMemory. The room is asked for, given back and taken: should another thread get in between, then
// the vector throws all the same, and the binding answers it.
template <typename T>
[[nodiscard]] Status try_reserve(std::vector<T>& values, std::size_t count) {
  if (count <= values.capacity()) return Status::ok();
  void* const room = count > values.max_size() ? nullptr : ::operator new(count * sizeof(T), std::nothrow);
  if (room == nullptr) {
    return Status(Code::kOutOfMemory, std::to_string(count) + " times " + std::to_string(sizeof(T)) +
                                          " bytes of host memory asked for, which are not there");
  }
  ::operator delete(room);
  values.reserve(count);
  return Status::ok();
}

}  // namespace kvtier
