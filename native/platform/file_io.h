// The system calls that a disk tier uses, as one replaceable object: the shipped build always uses the system's; test
// builds put a faulty one in its place. Any thread.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

namespace kvtier {

class FileIo {
 public:
  virtual ~FileIo() = default;
  // As the system calls: bytes moved, which may be fewer than asked for, or -1 with errno set. No call of this class
  // ends with EINTR.
  virtual ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept;
  virtual ssize_t pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept;
  // Makes the file at least offset + length bytes long and takes the blocks for them, so that a full disk is found now
  // and not at a write; a file system that cannot do that only makes it longer. 0, or an errno value.
  virtual int allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept;
  // What was written to the file survives a power loss after this. 0, or an errno value.
  virtual int sync(int fd) noexcept;
};

[[nodiscard]] FileIo& file_io() noexcept;
// nullptr puts the system's back. The object must outlive its use. For test builds.
void replace_file_io(FileIo* replacement) noexcept;

}  // namespace kvtier
