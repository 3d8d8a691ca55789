#include "platform/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <cerrno>
#include <cstdlib>
#include <string>

namespace {

// A file without a name, gone with the object.
class TemporaryFile {
 public:
  TemporaryFile() {
    std::string path = (std::getenv("TMPDIR") != nullptr ? std::string(std::getenv("TMPDIR")) : std::string("/tmp")) +
                       "/kvtier-file-io-XXXXXX";
    fd_ = ::mkstemp(path.data());
    REQUIRE(fd_ >= 0);
    ::unlink(path.c_str());
  }
  ~TemporaryFile() { ::close(fd_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace

TEST_CASE("what is written in parts at an offset is read back from there in other parts") {
  const TemporaryFile file;
  std::string first = "hello ";
  std::string second = "slots";
  const iovec out[] = {{first.data(), first.size()}, {second.data(), second.size()}};
  CHECK(kvtier::file_io().pwritev(file.fd(), out, 2, 4096) == 11);
  char a[3] = {};
  char b[8] = {};
  const iovec in[] = {{a, sizeof a}, {b, sizeof b}};
  CHECK(kvtier::file_io().preadv(file.fd(), in, 2, 4096) == 11);
  CHECK(std::string(a, 3) + std::string(b, 8) == "hello slots");
  CHECK(kvtier::file_io().sync(file.fd()) == 0);
}

TEST_CASE("reading past the end gives fewer bytes and no error") {
  const TemporaryFile file;
  char byte = 'x';
  const iovec part{&byte, 1};
  CHECK(kvtier::file_io().preadv(file.fd(), &part, 1, 1 << 20) == 0);
}

TEST_CASE("a failing call gives -1 and leaves errno, or gives the error number") {
  char byte = 'x';
  const iovec part{&byte, 1};
  errno = 0;
  CHECK(kvtier::file_io().preadv(-1, &part, 1, 0) == -1);
  CHECK(errno == EBADF);
  errno = 0;
  CHECK(kvtier::file_io().pwritev(-1, &part, 1, 0) == -1);
  CHECK(errno == EBADF);
  CHECK(kvtier::file_io().sync(-1) == EBADF);
  CHECK(kvtier::file_io().allocate(-1, 0, 4096) == EBADF);
}

TEST_CASE("allocate makes the file as long as asked and gives it blocks") {
  const TemporaryFile file;
  CHECK(kvtier::file_io().allocate(file.fd(), 0, 1 << 20) == 0);
  struct stat info {};
  REQUIRE(::fstat(file.fd(), &info) == 0);
  CHECK(info.st_size == 1 << 20);
  CHECK(info.st_blocks * 512 >= 1 << 20);
}

TEST_CASE("a replacement is used until the system's is put back") {
  struct Refusing final : kvtier::FileIo {
    ssize_t preadv(int, const iovec*, int, std::uint64_t) noexcept override {
      errno = EIO;
      return -1;
    }
  };
  Refusing refusing;
  kvtier::FileIo* const system = &kvtier::file_io();
  kvtier::FileIo& before = kvtier::file_io();
  kvtier::replace_file_io(&refusing);
  CHECK(&kvtier::file_io() == &refusing);
  CHECK(kvtier::file_io().preadv(0, nullptr, 0, 0) == -1);
  kvtier::replace_file_io(&before);
  CHECK(&kvtier::file_io() == system);
}
