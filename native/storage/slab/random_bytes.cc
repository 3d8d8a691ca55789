#include "storage/slab/random_bytes.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace kvtier {

Status random_bytes(void* bytes, std::size_t length) {
  constexpr std::size_t kMostAtOnce = 256;  // getentropy gives no more
  auto* at = static_cast<std::byte*>(bytes);
  while (length != 0) {
    const std::size_t now = std::min(length, kMostAtOnce);
    if (::getentropy(at, now) != 0) {
      return Status(Code::kIo, Status::from_errno(errno, "asking the system for random bytes").message());
    }
    at += now;
    length -= now;
  }
  return Status::ok();
}

}  // namespace kvtier
