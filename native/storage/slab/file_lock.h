// Opening a file that one opening at a time may use. The lock belongs to the open file, so that a second opening in the
// same process is refused as well, and the system drops it with the process. Any thread.
#pragma once

#include <functional>
#include <string>

#include "core/status.h"
#include "platform/file_descriptor.h"

namespace kvtier {

struct LockedFile {
  FileDescriptor file;
  bool taken = false;  // false: another opening holds the lock; `file` is good for looking who
};

// Calls `open_file`, which opens (and may make) the file `name` of the directory, and locks what it gave; again, when
// by then the name leads to another file, for a lock on a file that was deleted keeps nobody out. `open_file` returns a
// descriptor, or -1 with errno set. `path` is for messages. Fails with what opening or locking failed with; kIo when
// the file is replaced each time.
[[nodiscard]] Result<LockedFile> open_locked(int directory_fd, const std::string& name, const std::string& path,
                                             const std::function<int()>& open_file);

}  // namespace kvtier
