// One file of a store: opening, reserving its bytes on the disk, and moving bytes with every short read or write
// carried on. All of it goes through file_io(). Reading and writing from any thread; the rest from one.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

#include "core/status.h"
#include "platform/file_descriptor.h"
#include "storage/slab/store_directory.h"

namespace kvtier {

class SlabFile {
 public:
  // What is missing is created with mode 0600, and what is there is locked for this opening alone, except in a
  // read-only directory. Fails: kNotWritable, kLocked, kNotAStore (no such file in a read-only directory, or not a
  // regular one), kIo.
  [[nodiscard]] static Result<SlabFile> open(const StoreDirectory& directory, const std::string& name);

  // True until keep(): the destructor removes a file that open() created, so that a failed open leaves nothing
  // half-made.
  void keep() noexcept { remove_at_exit_ = false; }
  [[nodiscard]] bool created() const noexcept { return created_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // For opening the same file once more.
  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }
  [[nodiscard]] Result<std::uint64_t> size() const;
  // A number for the disk that the file lies on, or the file system that a machine reaches it through.
  [[nodiscard]] Result<std::uint64_t> disk() const;

  // Makes the file at least this long with every byte reserved on the disk. On failure the file has its old length.
  // Fails: kNoSpace (the message has asked and free bytes), kIo.
  [[nodiscard]] Status reserve(std::uint64_t size_bytes);
  // Cuts the file when it is longer.
  [[nodiscard]] Status shrink_to(std::uint64_t size_bytes);
  // Switches to O_DIRECT; false, and nothing changed, where the file system has none. The file must not be empty.
  [[nodiscard]] bool try_direct();

  // The whole of `parts`, or an error; the parts are used up. With O_DIRECT, addresses, lengths and offset are
  // multiples of 4 KiB. A read beyond the end is an error.
  [[nodiscard]] Status read(std::span<iovec> parts, std::uint64_t offset) const;
  [[nodiscard]] Status write(std::span<iovec> parts, std::uint64_t offset) const;
  [[nodiscard]] Status read(std::span<std::byte> bytes, std::uint64_t offset) const;
  [[nodiscard]] Status write(std::span<const std::byte> bytes, std::uint64_t offset) const;
  [[nodiscard]] Status sync() const;

  SlabFile() noexcept = default;
  ~SlabFile();
  SlabFile(SlabFile&& other) noexcept = default;
  SlabFile& operator=(SlabFile&&) = delete;

 private:
  enum class Direction : std::uint8_t { kRead, kWrite };
  [[nodiscard]] Status move(Direction direction, std::span<iovec> parts, std::uint64_t offset) const;
  [[nodiscard]] Status cannot_reserve(std::uint64_t asked, std::uint64_t held, int errno_value) const;

  FileDescriptor file_;
  std::string path_;
  std::string name_;
  int directory_fd_ = -1;  // borrowed from the StoreDirectory, for removing the file
  bool created_ = false;
  bool remove_at_exit_ = false;
  bool direct_ = false;
};

}  // namespace kvtier
