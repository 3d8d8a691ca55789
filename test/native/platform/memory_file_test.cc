#include "platform/memory_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "support/faulty-io/faulty_io.h"

using namespace kvtier;

namespace {

constexpr MemoryFileKind kKinds[] = {
#if defined(__linux__)
    MemoryFileKind::kMemory,
#endif
    MemoryFileKind::kTemporary};

MemoryFile make(MemoryFileKind kind) {
  auto file = MemoryFile::create(kind);
  REQUIRE_MESSAGE(file.is_ok(), file.status().message());
  return std::move(file).value();
}

Status write_text(MemoryFile& file, std::uint64_t offset, std::string text) {
  iovec part{text.data(), text.size()};
  return file.write(offset, {&part, 1});
}

std::string text_of(const MemoryFile& file) {
  std::string text(file.size().value(), '?');
  iovec part{text.data(), text.size()};
  REQUIRE(file.read(0, {&part, 1}).is_ok());
  return text;
}

struct FaultsEnd {
  ~FaultsEnd() { FaultyIo::instance().set_faults({}); }
};

// At most so many descriptors while this lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t most) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlimit now = before_;
    now.rlim_cur = most;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("what others write by the path is read, and the other way round") {
  for (const MemoryFileKind kind : kKinds) {
    MemoryFile file = make(kind);
    std::ofstream(file.path(), std::ios::binary | std::ios::trunc) << "from an engine";
    CHECK(text_of(file) == "from an engine");
    REQUIRE(write_text(file, 5, "somebody").is_ok());
    std::string all;
    std::getline(std::ifstream(file.path()), all);
    CHECK(all == "from somebodye");
    file.clear();
    CHECK(file.size().value() == 0);
  }
}

TEST_CASE("a file is its user's alone, closed in children, and gone with its object") {
  for (const MemoryFileKind kind : kKinds) {
    std::string path;
    {
      MemoryFile file = make(kind);
      path = file.path();
      const int again = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      REQUIRE(again >= 0);
      struct stat info {};
      REQUIRE(::fstat(again, &info) == 0);
      if (kind == MemoryFileKind::kTemporary) CHECK((info.st_mode & 0777) == 0600);
      ::close(again);
      if (kind == MemoryFileKind::kMemory) {
        CHECK((::fcntl(std::stoi(path.substr(path.rfind('/') + 1)), F_GETFD) & FD_CLOEXEC) != 0);
      }
    }
    CHECK(::access(path.c_str(), F_OK) != 0);
  }
}

TEST_CASE("a file that has moved is closed once") {
  MemoryFile first = make(MemoryFileKind::kTemporary);
  const std::string path = first.path();
  {
    const MemoryFile second = std::move(first);
    CHECK(second.path() == path);
    CHECK(::access(path.c_str(), F_OK) == 0);
  }
  CHECK(::access(path.c_str(), F_OK) != 0);
}

TEST_CASE("reserving makes a file exactly that long and keeps what it held") {
  for (const MemoryFileKind kind : kKinds) {
    MemoryFile file = make(kind);
    REQUIRE(write_text(file, 0, "0123456789").is_ok());
    REQUIRE(file.reserve(6).is_ok());
    CHECK(text_of(file) == "012345");
    REQUIRE(file.reserve(8).is_ok());
    CHECK(text_of(file) == std::string("012345\0\0", 8));
    REQUIRE(file.reserve(0).is_ok());
    CHECK(file.size().value() == 0);
  }
}

TEST_CASE("what is written at once is in the file, whatever it held and whoever shortened it before") {
  for (const MemoryFileKind kind : kKinds) {
    MemoryFile file = make(kind);
    int round = 0;
    for (const std::size_t size : {10'000U, 3U, 70'000U, 70'000U, 69'999U, 200'000U, 1U, 4096U}) {
      CAPTURE(size);
      if (round % 3 == 1) std::ofstream(file.path(), std::ios::binary | std::ios::trunc) << "from an engine";
      if (round % 3 == 2) file.clear();
      const auto bytes = file.begin_write(size);
      REQUIRE_MESSAGE(bytes.is_ok(), bytes.status().message());
      REQUIRE(bytes.value().size() == size);
      std::string expected;
      for (std::size_t i = 0; i < size; ++i)
        expected += static_cast<char>('a' + (i * 7 + static_cast<std::size_t>(round)) % 26);
      std::memcpy(bytes.value().data(), expected.data(), size);
      REQUIRE(file.end_write().is_ok());
      CHECK(text_of(file) == expected);
      std::ifstream by_path(file.path(), std::ios::binary);
      CHECK(std::string(std::istreambuf_iterator<char>(by_path), {}) == expected);
      ++round;
    }
  }
}

TEST_CASE("a file that is moved while it is written has what was written") {
  for (const MemoryFileKind kind : kKinds) {
    MemoryFile before = make(kind);
    const auto bytes = before.begin_write(100);
    REQUIRE(bytes.is_ok());
    MemoryFile file = std::move(before);
    std::memset(bytes.value().data(), 'x', 100);
    REQUIRE(file.end_write().is_ok());
    CHECK(text_of(file) == std::string(100, 'x'));
    const auto again = file.begin_write(90);
    REQUIRE(again.is_ok());
    std::memset(again.value().data(), 'y', 90);
    REQUIRE(file.end_write().is_ok());
    CHECK(text_of(file) == std::string(90, 'y'));
  }
}

#if defined(__linux__)
TEST_CASE("a core dump holds nothing of what is written at once") {
  for (const MemoryFileKind kind : kKinds) {
    MemoryFile file = make(kind);
    const auto bytes = file.begin_write(300'000);
    REQUIRE(bytes.is_ok());
    std::ifstream maps("/proc/self/smaps");
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.value().data());
    bool is_here = false;
    std::string flags;
    for (std::string line; flags.empty() && std::getline(maps, line);) {
      std::uintptr_t begin = 0;
      std::uintptr_t end = 0;
      if (std::sscanf(line.c_str(), "%zx-%zx ", &begin, &end) == 2) is_here = begin <= address && address < end;
      if (is_here && line.starts_with("VmFlags:")) flags = line;
    }
    CHECK_MESSAGE(flags.find(" dd") != std::string::npos, flags);
    REQUIRE(file.end_write().is_ok());
  }
}
#endif

TEST_CASE("a write at once that fails is a status, and the next one is whole") {
  const FaultsEnd end;
  MemoryFile file = make(MemoryFileKind::kTemporary);
  FaultyIo::instance().set_faults({.fail_call = 1});
  CHECK(file.begin_write(100).status().code() == Code::kIo);
  for (const bool full : {false, true}) {
    FaultyIo::instance().set_faults({});
    const auto bytes = file.begin_write(100);
    REQUIRE(bytes.is_ok());
    std::memset(bytes.value().data(), 'x', 100);
    FaultyIo::instance().set_faults(full ? FaultProfile{.write_no_space = 1} : FaultProfile{.fail_call = 1});
    CHECK(file.end_write().code() == (full ? Code::kNoSpace : Code::kIo));
  }
  FaultyIo::instance().set_faults({.seed = 3, .short_write = 0.5});
  const auto bytes = file.begin_write(100);
  REQUIRE(bytes.is_ok());
  std::memset(bytes.value().data(), 'y', 100);
  REQUIRE(file.end_write().is_ok());
  CHECK(text_of(file) == std::string(100, 'y'));
}

TEST_CASE("parts are moved in order, in calls of any length, and a read ends where the file does") {
  const FaultsEnd end;
  MemoryFile file = make(kKinds[0]);
  std::vector<std::string> texts;
  std::string all;
  for (int i = 0; i < 500; ++i) {
    texts.push_back(std::string(static_cast<std::size_t>(i % 7), static_cast<char>('a' + i % 26)));
    all += texts.back();
  }
  const auto parts_of = [](std::vector<std::string>& own) {
    std::vector<iovec> parts;
    for (std::string& text : own) parts.push_back({text.data(), text.size()});
    return parts;
  };
  FaultyIo::instance().set_faults({.seed = 3, .short_read = 0.5, .short_write = 0.5});
  std::vector<iovec> parts = parts_of(texts);
  REQUIRE(file.write(3, parts).is_ok());
  CHECK(text_of(file).substr(3) == all);
  std::vector<std::string> copies;
  for (const std::string& text : texts) copies.emplace_back(text.size(), '?');
  parts = parts_of(copies);
  const auto moved = file.read(3, parts);
  REQUIRE(moved.is_ok());
  CHECK(moved.value() == all.size());
  CHECK(copies == texts);
  parts = parts_of(copies);
  CHECK(file.read(13, parts).value() == all.size() - 10);
  parts = parts_of(copies);
  CHECK(file.read(1 << 20, parts).value() == 0);
}

TEST_CASE("every call of the system that fails is a status") {
  const FaultsEnd end;
  for (const MemoryFileKind kind : kKinds) {
    MemoryFile file = make(kind);
    FaultyIo::instance().set_faults({.fail_call = 1});
    CHECK(file.reserve(4096).code() == Code::kIo);
    FaultyIo::instance().set_faults({.fail_call = 1});
    CHECK(write_text(file, 0, "x").code() == Code::kIo);
    FaultyIo::instance().set_faults({});
    REQUIRE(write_text(file, 0, "x").is_ok());
    FaultyIo::instance().set_faults({.fail_call = 1});
    char byte = 0;
    iovec part{&byte, 1};
    CHECK(file.read(0, {&part, 1}).status().code() == Code::kIo);
    FaultyIo::instance().set_faults({.write_no_space = 1});
    const Status full = write_text(file, 0, "x");
    CHECK(full.code() == Code::kNoSpace);
    CHECK(full.message().starts_with(file.path() + ": it could not be written: "));
  }
}

TEST_CASE("more room than there is fails before anything is written") {
  MemoryFile file = make(MemoryFileKind::kTemporary);
  REQUIRE(write_text(file, 0, "as it was").is_ok());
  const Status status = file.reserve(std::uint64_t{1} << 60);
  CHECK_FALSE(status.is_ok());
  CHECK(text_of(file) == "as it was");
}

TEST_CASE("a folder that is not there, and a process without descriptors, are said") {
  const char* const before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("TMPDIR", "/nowhere/at/all", 1);
  const auto missing = MemoryFile::create(MemoryFileKind::kTemporary);
  if (before == nullptr) {
    ::unsetenv("TMPDIR");
  } else {
    ::setenv("TMPDIR", kept.c_str(), 1);
  }
  REQUIRE_FALSE(missing.is_ok());
  CHECK(missing.status().message().starts_with("/nowhere/at/all/kvtier-image-"));
  const FewDescriptors few(0);
  // No other kind is tried: that needs a descriptor too.
  const auto none = MemoryFile::create();
  REQUIRE_FALSE(none.is_ok());
  CHECK(none.status().message().find("could not be made") != std::string::npos);
}
