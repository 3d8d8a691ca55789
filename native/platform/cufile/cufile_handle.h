// A file that is registered with cuFile: whole transfers between it and registered device memory. Opening and
// destroying: one thread. Transfers: any threads, also at once; their order against queued work of a device is the
// caller's affair, for a transfer waits for no stream.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"
#include "platform/cufile/cufile_buffer.h"
#include "platform/cufile/cufile_driver.h"
#include "platform/file_descriptor.h"

namespace kvtier {

class CufileHandle {
 public:
  // Opens the file of the descriptor once more, for direct I/O and without the flags that cuFile refuses, and registers
  // that. The descriptor is used by this call alone; `path` is for messages. Fails: kUnsupported (cuFile is not ready,
  // or takes no such file or file system, or the file system has no O_DIRECT), kNotWritable, kIo.
  [[nodiscard]] static Result<CufileHandle> open(const CufileDriver& driver, int descriptor, std::string path);

  CufileHandle(CufileHandle&& other) noexcept;
  CufileHandle& operator=(CufileHandle&&) = delete;
  CufileHandle(const CufileHandle&) = delete;
  CufileHandle& operator=(const CufileHandle&) = delete;
  // Precondition: no transfer is under way.
  ~CufileHandle();

  // All of the bytes, or an error that says how many were moved. Offsets and length are multiples of 4 KiB. A read
  // beyond the end of the file is an error. Fails: kInvalidValue (not aligned, or beyond the buffer), kNoSpace,
  // kNotWritable, kDeviceLost, kUnsupported, kIo.
  [[nodiscard]] Status read(std::uint64_t file_offset, const CufileBuffer& buffer, std::uint64_t buffer_offset,
                            std::uint64_t size_bytes) const;
  [[nodiscard]] Status write(std::uint64_t file_offset, const CufileBuffer& buffer, std::uint64_t buffer_offset,
                             std::uint64_t size_bytes) const;

  // The file's own descriptor, open for reading, writing and direct I/O.
  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

 private:
  enum class Direction : std::uint8_t { kRead, kWrite };
  struct Piece {
    std::uint64_t file_offset;
    std::uint64_t buffer_offset;
    std::uint64_t size_bytes;
  };

  CufileHandle(const CufileDriver& driver, FileDescriptor file, std::string path) noexcept;
  [[nodiscard]] Status move(Direction direction, const CufileBuffer& buffer, const Piece& piece) const;
  // As cuFileRead and cuFileWrite; errno is set where they answer -1.
  [[nodiscard]] ssize_t move_once(Direction direction, const CufileBuffer& buffer, const Piece& piece) const;

  const CufileDriver& driver_;
  FileDescriptor file_;  // closed after the handle was given back
  std::string path_;
  cufile::Handle handle_ = nullptr;  // nullptr: none
};

}  // namespace kvtier
