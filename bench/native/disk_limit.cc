#include "disk_limit.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "platform/file_io.h"
#include "team.h"

namespace limits {

using kvtier::Result;
using kvtier::Status;

Result<std::unique_ptr<DiskLimit>> DiskLimit::make(const std::string& path, std::size_t size_bytes) {
  auto memory = kvtier::HostBuffer::allocate(size_bytes);
  if (!memory.is_ok()) return memory.status();
  std::unique_ptr<DiskLimit> limit(new DiskLimit());
  limit->path_ = path;
  limit->size_bytes_ = size_bytes;
  limit->memory_ = std::move(memory).value();
  std::memset(limit->memory_.data(), 1, size_bytes);
  constexpr int kFlags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
#if defined(O_DIRECT)
  limit->fd_ = ::open(path.c_str(), kFlags | O_DIRECT, 0600);
  limit->direct_ = limit->fd_ >= 0;
#endif
  if (limit->fd_ < 0) limit->fd_ = ::open(path.c_str(), kFlags, 0600);
  if (limit->fd_ < 0) return Status::from_errno(errno, "opening " + path);
  const int error = kvtier::file_io().allocate(limit->fd_, 0, size_bytes);
  if (error != 0) return Status::from_errno(error, "reserving " + std::to_string(size_bytes) + " bytes for " + path);
  return limit;
}

DiskLimit::~DiskLimit() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(path_.c_str());
}

Result<Elapsed> DiskLimit::run(std::size_t op_bytes, unsigned thread_count, bool writes) {
  std::atomic<int> failure{0};
  const std::size_t ops = size_bytes_ / op_bytes;
  const Elapsed elapsed = run_team(thread_count, ops, [&](unsigned, std::size_t op) {
    std::byte* at = memory_.data() + op * op_bytes;
    const auto offset = static_cast<off_t>(op * op_bytes);
    const ssize_t moved = writes ? ::pwrite(fd_, at, op_bytes, offset) : ::pread(fd_, at, op_bytes, offset);
    if (moved != static_cast<ssize_t>(op_bytes)) failure = moved < 0 ? errno : EIO;
  });
  if (failure != 0) return Status::from_errno(failure, (writes ? "writing " : "reading ") + path_);
  return elapsed;
}

}  // namespace limits
