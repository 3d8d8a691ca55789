#include "platform/probe/io_uring_probe.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "core/status.h"

#if defined(__linux__)
#include <sys/syscall.h>
#endif

namespace kvtier {
namespace {

#if defined(__linux__)
// The same number on every architecture; older C libraries do not name it.
constexpr long kIoUringSetup = 425;
constexpr unsigned kEntries = 4;
// struct io_uring_params: 120 bytes, all zero for a plain ring.
struct alignas(8) IoUringParams {
  std::array<std::uint8_t, 120> bytes{};
};
#endif

}  // namespace

std::string io_uring_refusal(int errno_value) {
  switch (errno_value) {
    case ENOSYS:
      return "the kernel has no io_uring (5.1 and later have), or a container's seccomp profile hides it: reads and "
             "writes "
             "use threads";
    case EPERM:
    case EACCES:
      return "io_uring is forbidden here (kernel.io_uring_disabled, or a container's seccomp profile): reads and "
             "writes use "
             "threads";
    case ENOMEM:
      return "io_uring may not lock enough memory: raise RLIMIT_MEMLOCK (ulimit -l); until then reads and writes use "
             "threads";
    default:
      return Status::from_errno(errno_value, "io_uring_setup").message() + ": reads and writes use threads";
  }
}

IoUringProbe probe_io_uring() {
#if defined(__linux__)
  IoUringParams params;
  const long fd = ::syscall(kIoUringSetup, kEntries, &params);
  if (fd < 0) return {false, io_uring_refusal(errno)};
  ::close(static_cast<int>(fd));
  return {true, {}};
#else
  return {false, "io_uring is Linux's: reads and writes use threads"};
#endif
}

}  // namespace kvtier
