// Whether another process has ended, known at once and without mistaking a later process of the same number for it. Any
// thread.
#pragma once

#include "platform/file_descriptor.h"

namespace kvtier {

class ProcessWatch {
 public:
  // Watches the process that has the number now; one that nobody has counts as ended.
  explicit ProcessWatch(int process) noexcept;

  // A system that cannot watch (Linux before 5.3, a sandbox) leaves it false.
  [[nodiscard]] bool has_ended() const noexcept;

 private:
  FileDescriptor process_;
  bool was_gone_ = false;
};

}  // namespace kvtier
