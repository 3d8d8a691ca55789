// What a directory offers to a disk tier: whether it can be written, which file system it is on, how much is free, and
// whether O_DIRECT works. Nothing is left behind in it. Any thread; may wait for the disk.
#pragma once

#include <cstdint>
#include <string>

namespace kvtier {

struct DirectoryProbe {
  std::string path;
  bool exists = false;      // and is a directory
  bool writable = false;    // a file was made in it
  std::string file_system;  // "ext4", "tmpfs"; a number like "0x1234" for one without a name here; empty when unknown
  std::uint64_t free_bytes = 0;  // for this user
  bool direct = false;           // a file was opened with O_DIRECT
  std::string reason;            // empty when writable and direct; else what is missing and what to do
};

[[nodiscard]] DirectoryProbe probe_directory(const std::string& path);

// The name of a Linux file system by the number that statfs gives; hexadecimal when it has none here.
[[nodiscard]] std::string file_system_name(std::uint64_t magic);

}  // namespace kvtier
