// A file in memory that others in this process open by its path: an engine that only gives and takes files. What others
// wrote is read by calls, so whoever shortens it meanwhile costs a failed read and never a signal; it is mapped only to
// be written, when nobody else has it. One thread at a time; the path may be opened by any.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/status.h"
#include "platform/file_descriptor.h"

namespace kvtier {

enum class MemoryFileKind : std::uint8_t {
  kMemory,     // of the kernel's, without a name; opened as /proc/self/fd/N
  kTemporary,  // in TMPDIR, for this user only; gone with the object
};

class MemoryFile {
 public:
  // As many parts as one call may have.
  static constexpr std::size_t kMaxParts = 1024;

  // kMemory where the system has such files and /proc shows them; else kTemporary. Empty, and closed in children. Fails
  // as the system calls do.
  [[nodiscard]] static Result<MemoryFile> create();
  // One of that kind. Fails with kUnsupported where there is none.
  [[nodiscard]] static Result<MemoryFile> create(MemoryFileKind kind);

  // Gives the memory back: milliseconds where that is large.
  ~MemoryFile();
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&& other) = delete;
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  [[nodiscard]] MemoryFileKind kind() const noexcept { return kind_; }
  // For opening only: kMemory is not there any more when the object has gone, and the path may be another file then.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] Result<std::uint64_t> size() const;
  // Makes the file exactly that long and takes the space, so that a lack of it is found here. What the file holds up to
  // there keeps its pages. Fails with kNoSpace, kOutOfMemory.
  [[nodiscard]] Status reserve(std::uint64_t size_bytes);
  // The bytes of the file, which becomes exactly that long, to be written all of them; what they hold before says
  // nothing. Nobody else may have the file open until end_write(). Pages that were written before cost nothing. Where
  // the file cannot be mapped it is memory of its own. No part of a core dump. Fails as reserve() does.
  [[nodiscard]] Result<std::span<std::byte>> begin_write(std::uint64_t size_bytes);
  // What was written is in the file. Fails as write() does.
  [[nodiscard]] Status end_write();
  // Nothing is left in the file. Best effort: what cannot be shortened cannot be read as an image either.
  void clear() noexcept;

  // Moves the parts, at most kMaxParts, from or to `offset`; the parts are used up. A read gives the number of bytes,
  // which is less than asked for only where the file ends.
  [[nodiscard]] Result<std::uint64_t> read(std::uint64_t offset, std::span<iovec> parts) const;
  [[nodiscard]] Status write(std::uint64_t offset, std::span<iovec> parts);

 private:
  MemoryFile(MemoryFileKind kind, FileDescriptor file, std::string path) noexcept;
  // Whether the first `size_bytes` of the file can be written in place.
  [[nodiscard]] bool map(std::uint64_t size_bytes) noexcept;

  // Memory that the system gave, until this goes.
  struct Mapping {
    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    ~Mapping();
    // Whether there was room for it. Nothing was made before.
    [[nodiscard]] bool make(std::uint64_t length, int flags, int fd) noexcept;
    std::byte* data = nullptr;
    std::uint64_t size_bytes = 0;
    std::uint64_t touched_bytes = 0;  // of the file, whose pages are there
  };

  MemoryFileKind kind_;
  FileDescriptor file_;
  std::string path_;
  Mapping mapping_;    // of the file
  Mapping unwritten_;  // between begin_write() and end_write(), where the file cannot be mapped
};

}  // namespace kvtier
