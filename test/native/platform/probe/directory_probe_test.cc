#include "platform/probe/directory_probe.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <cstdlib>
#include <string>

namespace {

class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& below) : path_(below + "/kvtier-probe-test-XXXXXX") {
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryDirectory() { ::rmdir(path_.c_str()); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] int entries() const {
    int count = 0;
    DIR* const directory = ::opendir(path_.c_str());
    REQUIRE(directory != nullptr);
    while (const dirent* const entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") ++count;
    }
    ::closedir(directory);
    return count;
  }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("a directory of one's own is writable, has a file system with room, and is left empty") {
  const TemporaryDirectory directory("/tmp");
  const kvtier::DirectoryProbe probe = kvtier::probe_directory(directory.path());
  CHECK(probe.path == directory.path());
  CHECK(probe.exists);
  CHECK(probe.writable);
  CHECK_FALSE(probe.file_system.empty());
  CHECK(probe.free_bytes > 0);
  CHECK(probe.direct == probe.reason.empty());
  CHECK(directory.entries() == 0);
}

#if defined(__linux__)
TEST_CASE("a directory in shared memory is known as tmpfs") {
  struct stat info {};
  if (::stat("/dev/shm", &info) != 0 || ::access("/dev/shm", W_OK) != 0) {
    MESSAGE("skipped: no /dev/shm here");
    return;
  }
  const TemporaryDirectory directory("/dev/shm");
  const kvtier::DirectoryProbe probe = kvtier::probe_directory(directory.path());
  CHECK(probe.file_system == "tmpfs");
  CHECK(probe.writable);
  CHECK(directory.entries() == 0);
}

TEST_CASE("a directory of the kernel's own cannot be written, and the reason says so") {
  const kvtier::DirectoryProbe probe = kvtier::probe_directory("/proc");
  CHECK(probe.exists);
  CHECK_FALSE(probe.writable);
  CHECK_FALSE(probe.direct);
  CHECK(probe.reason.find("/proc") != std::string::npos);
}
#endif

TEST_CASE("a path that is missing or no directory is told apart") {
  const kvtier::DirectoryProbe missing = kvtier::probe_directory("/tmp/kvtier-no-such-directory");
  CHECK_FALSE(missing.exists);
  CHECK_FALSE(missing.writable);
  CHECK(missing.reason.find("does not exist") != std::string::npos);
  const kvtier::DirectoryProbe file = kvtier::probe_directory("/dev/null");
  CHECK_FALSE(file.exists);
  CHECK(file.reason.find("not a directory") != std::string::npos);
}

TEST_CASE("file systems are named, and an unknown one is a hexadecimal number") {
  CHECK(kvtier::file_system_name(0xEF53) == "ext4");
  CHECK(kvtier::file_system_name(0x58465342) == "xfs");
  CHECK(kvtier::file_system_name(0x9123683E) == "btrfs");
  CHECK(kvtier::file_system_name(0x01021994) == "tmpfs");
  CHECK(kvtier::file_system_name(0x6969) == "nfs");
  CHECK(kvtier::file_system_name(0x794C7630) == "overlayfs");
  CHECK(kvtier::file_system_name(0x12ab) == "0x12ab");
}
