#include "platform/process_watch.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace kvtier {

#if defined(__linux__)

namespace {
// The value is the kernel's, the same for every processor; older C libraries do not name it.
constexpr long kPidfdOpen = 434;
}  // namespace

ProcessWatch::ProcessWatch(int process) noexcept {
  // The descriptor is closed by exec() without being asked to.
  const long opened = ::syscall(kPidfdOpen, process, 0);
  if (opened >= 0) {
    process_ = FileDescriptor(static_cast<int>(opened));
  } else {
    was_gone_ = errno == ESRCH;
  }
}

bool ProcessWatch::has_ended() const noexcept {
  if (!process_.is_open()) return was_gone_;
  pollfd waiting{process_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

#else

ProcessWatch::ProcessWatch(int /*process*/) noexcept {}

bool ProcessWatch::has_ended() const noexcept {
  return was_gone_;
}

#endif

}  // namespace kvtier
