// Opening a slab: fresh, warm, grown, shrunk, foreign, damaged, without room.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "digest/xxh3.h"
#include "native/storage/slab/slab_rig.h"

using kvtier::Code;
using kvtier::FileIo;
using kvtier::GroupShape;
using kvtier::SlabContents;
using kvtier::SlabOptions;
using kvtier::SlabStorage;
using kvtier::Status;
using kvtier::StoreDirectory;
using namespace kvtier::slab_rig;

namespace {

std::uint64_t size_of(const std::string& path) {
  return std::filesystem::file_size(path);
}

std::uint64_t reserved_bytes(const std::string& path) {
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  return static_cast<std::uint64_t>(about.st_blocks) * 512;
}

bool exists(const std::string& path) {
  return std::filesystem::exists(path);
}

bool says(const Status& status, const std::string& text) {
  return status.message().find(text) != std::string::npos;
}

Status status_of(const StoreDirectory& directory, const SlabOptions& options) {
  return SlabStorage::open(directory, options).status();
}

// Refuses to reserve once `allowed` files have been.
class NoSpaceIo final : public FileIo {
 public:
  explicit NoSpaceIo(int allowed) : allowed_(allowed) {}
  int allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept override {
    if (allowed_-- > 0) return FileIo::allocate(fd, offset, length);
    // As some file systems do, keep half.
    [[maybe_unused]] const int failed = ::ftruncate(fd, static_cast<off_t>(offset + length / 2));
    return ENOSPC;
  }

 private:
  int allowed_;
};

// A file system without O_DIRECT: the first access fails.
class NoDirectIo final : public FileIo {
 public:
  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    if ((::fcntl(fd, F_GETFL) & O_DIRECT) == 0) return FileIo::preadv(fd, parts, part_count, offset);
    errno = EINVAL;
    return -1;
  }
};

// A small file system of its own; empty where it cannot be mounted.
class SmallFileSystem {
 public:
  SmallFileSystem(const std::string& path, const char* options) : path_(path) {
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    mounted_ = ::geteuid() == 0 && ::mount("kvtier-test", path.c_str(), "tmpfs", 0, options) == 0;
  }
  ~SmallFileSystem() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;
  [[nodiscard]] bool is_mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("a fresh slab is reserved on the disk, for the owner only, and empty") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(20));
  CHECK(size_of(slab_path(*directory)) == 20 * kStride);
  CHECK(size_of(table_path(*directory)) == 8192 + 20 * 128);
  CHECK(reserved_bytes(slab_path(*directory)) >= 20 * kStride);
  for (const std::string& path : {slab_path(*directory), table_path(*directory)}) {
    CHECK((std::filesystem::status(path).permissions() == std::filesystem::perms(0600)));
  }
  const kvtier::StorageInfo& info = slab->info();
  CHECK(std::string(info.kind) == "slab");
  CHECK(info.shape == kShape);
  CHECK(info.slot_count == 20);
  CHECK(info.slot_stride == kStride);
  CHECK(info.persistent);
  CHECK(info.keeps_checksums);
  CHECK_FALSE(info.host_addressable);
  CHECK(recover(*slab).hashes.empty());
}

TEST_CASE("a reopened slab has the same store id and its blocks") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(20));
  const std::uint64_t store_id = slab->store_id();
  REQUIRE(store(*slab, 4, {1000, 1001, 1002}).is_ok());
  slab.reset();

  slab = open_slab_storage(*directory, options_of(20));
  CHECK(slab->store_id() == store_id);
  const SlabContents contents = recover(*slab);
  REQUIRE(contents.hashes.size() == 3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    CHECK((contents.hashes[i] == hash_of(1000 + i)));
    CHECK(contents.slots[i] == 4 + i);
    CHECK(contents.depths[i] == i);
    CHECK(contents.parents[i] == static_cast<std::int32_t>(i) - 1);
    CHECK(contents.tenant_tags[i] == (1000 + i) * 3);
    CHECK(contents.priorities[i] == (1000 + i) * 5);
    CHECK(contents.expires_at_s[i] == (1000 + i) * 7);
    CHECK(contents.last_uses_s[i] == (1000 + i) * 11);
    CHECK(load(*slab, 4 + i, 1000 + i) == Found::kHit);
  }
  CHECK(contents.records_rejected == 0);
  CHECK(contents.next_sequence == 4);
}

TEST_CASE("a slab that grows keeps its blocks, and one that shrinks those that fit") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  const std::uint64_t store_id = slab->store_id();
  REQUIRE(store(*slab, 0, {1000}).is_ok());
  REQUIRE(store(*slab, 9, {2000}).is_ok());
  slab.reset();

  slab = open_slab_storage(*directory, options_of(30));
  CHECK(slab->info().slot_count == 30);
  CHECK(slab->store_id() == store_id);
  CHECK(size_of(slab_path(*directory)) == 30 * kStride);
  CHECK(reserved_bytes(slab_path(*directory)) >= 30 * kStride);
  CHECK(recover(*slab).hashes.size() == 2);
  REQUIRE(store(*slab, 29, {3000}).is_ok());
  slab.reset();

  slab = open_slab_storage(*directory, options_of(5));
  CHECK(size_of(slab_path(*directory)) == 5 * kStride);
  CHECK(size_of(table_path(*directory)) == 8192 + 5 * 128);
  const SlabContents contents = recover(*slab);
  REQUIRE(contents.hashes.size() == 1);
  CHECK(load(*slab, 0, 1000) == Found::kHit);
  slab.reset();

  // What was cut off does not come back.
  slab = open_slab_storage(*directory, options_of(30));
  CHECK(recover(*slab).hashes.size() == 1);
}

TEST_CASE("records beyond the superblock's slots, left by a crash while shrinking, do not come back") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 9, {2000}).is_ok());
  slab.reset();
  const std::vector<std::uint8_t> table = read_file(table_path(*directory));
  slab = open_slab_storage(*directory, options_of(5));
  slab.reset();
  patch_file(table_path(*directory), 8192 + 5 * 128, std::span(table).subspan(8192 + 5 * 128));
  slab = open_slab_storage(*directory, options_of(10));
  CHECK(recover(*slab).hashes.empty());
}

TEST_CASE("a store of another shape or group is refused and left as it is") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 0, {1000}).is_ok());
  slab.reset();
  SlabOptions other = options_of(10);
  other.shape.layers = 6;
  const Status refused = status_of(*directory, other);
  CHECK(refused.code() == Code::kLayoutMismatch);
  CHECK(says(refused, kvtier::describe(kShape)));
  CHECK(says(refused, kvtier::describe(other.shape)));

  slab = open_slab_storage(*directory, options_of(10));
  CHECK(recover(*slab).hashes.size() == 1);
  slab.reset();
  for (const char* suffix : {".slab", ".table"}) {
    std::filesystem::copy_file(directory->path() + "/group-0" + suffix, directory->path() + "/group-1" + suffix);
  }
  other = options_of(10);
  other.group = 1;
  CHECK(status_of(*directory, other).code() == Code::kLayoutMismatch);
}

TEST_CASE("one damaged superblock is repaired by the other, in whatever order they were written") {
  for (const std::uint64_t damaged : {0U, 1U}) {
    for (const std::uint32_t slot_count : {10U, 12U}) {
      const TemporaryDirectory temporary;
      const auto directory = open_directory(temporary.path());
      auto slab = open_slab_storage(*directory, options_of(10));
      const std::uint64_t store_id = slab->store_id();
      REQUIRE(store(*slab, 3, {1000}).is_ok());
      slab.reset();
      slab = open_slab_storage(*directory, options_of(slot_count));
      slab.reset();
      flip_byte(table_path(*directory), damaged * 4096 + 200);
      slab = open_slab_storage(*directory, options_of(slot_count));
      CHECK(slab->store_id() == store_id);
      CHECK(recover(*slab).hashes.size() == 1);
    }
  }
}

TEST_CASE("a table whose superblocks are both damaged, cut off or foreign becomes a fresh store") {
  for (const std::string how : {"damaged", "cut", "empty", "random", "foreign"}) {
    CAPTURE(how);
    const TemporaryDirectory temporary;
    auto directory = open_directory(temporary.path());
    auto slab = open_slab_storage(*directory, options_of(10));
    const std::uint64_t store_id = slab->store_id();
    REQUIRE(store(*slab, 3, {1000}).is_ok());
    slab.reset();
    const std::string table = table_path(*directory);
    if (how == "damaged") {
      flip_byte(table, 60);
      flip_byte(table, 4096 + 4000);
    } else if (how == "cut") {
      REQUIRE(::truncate(table.c_str(), 4095) == 0);
    } else if (how == "empty") {
      REQUIRE(::truncate(table.c_str(), 0) == 0);
    } else if (how == "random") {
      std::vector<std::uint8_t> noise(8192 + 10 * 128);
      for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<std::uint8_t>(i * i * 31 + i);
      patch_file(table, 0, noise);
    } else {
      const std::string files = directory->path();
      directory.reset();
      directory = open_directory(temporary.path(), 2);
      for (const char* name : {"/group-0.slab", "/group-0.table"}) {
        std::filesystem::copy_file(files + name, directory->path() + name);
      }
    }
    slab = open_slab_storage(*directory, options_of(12));
    CHECK(slab->store_id() != store_id);
    const SlabContents contents = recover(*slab);
    CHECK(contents.hashes.empty());
    CHECK(contents.records_rejected == 0);
    CHECK(size_of(slab_path(*directory)) == 12 * kStride);
    REQUIRE(store(*slab, 11, {1000}).is_ok());
    CHECK(load(*slab, 11, 1000) == Found::kHit);
  }
}

TEST_CASE("a table without its slab becomes a fresh store") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 3, {1000}).is_ok());
  slab.reset();
  REQUIRE(::unlink(slab_path(*directory).c_str()) == 0);
  slab = open_slab_storage(*directory, options_of(10));
  CHECK(recover(*slab).hashes.empty());
}

TEST_CASE("a slab that was cut is reserved again, and what it lost is a miss") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(10));
  REQUIRE(store(*slab, 0, {1000}).is_ok());
  REQUIRE(store(*slab, 9, {2000}).is_ok());
  slab.reset();
  REQUIRE(::truncate(slab_path(*directory).c_str(), 2 * kStride + 100) == 0);
  slab = open_slab_storage(*directory, options_of(10));
  CHECK(size_of(slab_path(*directory)) == 10 * kStride);
  (void)recover(*slab);
  CHECK(load(*slab, 0, 1000) == Found::kHit);
  CHECK(load(*slab, 9, 2000) == Found::kMiss);
}

TEST_CASE("a store of a newer format is refused and not one byte of it is changed") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  open_slab_storage(*directory, options_of(10)).reset();
  // An unknown incompatible feature in the second copy.
  std::vector<std::uint8_t> table = read_file(table_path(*directory));
  table[4096 + 16] = 4;
  const std::uint64_t hash = kvtier::xxh3_64(table.data() + 4096, 4088, 0);
  for (std::size_t i = 0; i < 8; ++i) table[4096 + 4088 + i] = static_cast<std::uint8_t>(hash >> (8 * i));
  patch_file(table_path(*directory), 0, table);

  const Status refused = status_of(*directory, options_of(20));
  CHECK(refused.code() == Code::kUnsupported);
  CHECK(says(refused, "newer version"));
  CHECK((read_file(table_path(*directory)) == table));
  CHECK(size_of(slab_path(*directory)) == 10 * kStride);
}

TEST_CASE("without room a fresh slab leaves nothing behind and says how much is free") {
  for (const int allowed : {0, 1}) {
    const TemporaryDirectory temporary;
    const auto directory = open_directory(temporary.path());
    NoSpaceIo io(allowed);
    Status refused;
    {
      const ScopedFileIo scoped(io);
      refused = status_of(*directory, options_of(10));
    }
    CHECK(refused.code() == Code::kNoSpace);
    CHECK(says(refused, std::to_string(allowed == 0 ? 10 * kStride : 8192 + 10 * 128) + " bytes"));
    CHECK(says(refused, "bytes are free"));
    CHECK_FALSE(exists(slab_path(*directory)));
    CHECK_FALSE(exists(table_path(*directory)));
    CHECK(status_of(*directory, options_of(10)).is_ok());
  }
}

TEST_CASE("without room to grow a slab stays as it was") {
  for (const int allowed : {0, 1}) {
    const TemporaryDirectory temporary;
    const auto directory = open_directory(temporary.path());
    auto slab = open_slab_storage(*directory, options_of(10));
    REQUIRE(store(*slab, 9, {1000}).is_ok());
    slab.reset();
    NoSpaceIo io(allowed);
    {
      const ScopedFileIo scoped(io);
      CHECK(status_of(*directory, options_of(400)).code() == Code::kNoSpace);
    }
    CHECK(size_of(slab_path(*directory)) == 10 * kStride);
    CHECK(size_of(table_path(*directory)) == 8192 + 10 * 128);
    slab = open_slab_storage(*directory, options_of(10));
    CHECK(recover(*slab).hashes.size() == 1);
    CHECK(load(*slab, 9, 1000) == Found::kHit);
  }
}

TEST_CASE("a full file system is found at open, not later") {
  const TemporaryDirectory temporary;
  const std::string root = temporary.path() + "/small";
  const SmallFileSystem small(root, "size=1m,mode=0700");
  if (!small.is_mounted()) {
    MESSAGE("skipped: a small file system can be mounted by root only");
    return;
  }
  const auto directory = open_directory(root);
  const Status refused = status_of(*directory, options_of(1000));
  CHECK(refused.code() == Code::kNoSpace);
  CHECK(says(refused, std::to_string(1000 * kStride)));
  CHECK_FALSE(exists(slab_path(*directory)));
  CHECK_FALSE(exists(table_path(*directory)));

  auto slab = open_slab_storage(*directory, options_of(50));
  REQUIRE(store(*slab, 49, {1000}).is_ok());
  slab.reset();
  CHECK(status_of(*directory, options_of(1000)).code() == Code::kNoSpace);
  slab = open_slab_storage(*directory, options_of(50));
  CHECK(recover(*slab).hashes.size() == 1);
  CHECK(load(*slab, 49, 1000) == Found::kHit);
}

TEST_CASE("a file system without O_DIRECT is used without it") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  NoDirectIo io;
  const ScopedFileIo scoped(io);
  const auto slab = open_slab_storage(*directory, options_of(10));
  CHECK_FALSE(slab->direct());
  REQUIRE(store(*slab, 2, {1000}).is_ok());
  CHECK(load(*slab, 2, 1000) == Found::kHit);
}

TEST_CASE("O_DIRECT is not used when it is not wanted") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  CHECK_FALSE(open_slab_storage(*directory, options_of(10, false))->direct());
}

TEST_CASE("slots and shapes that cannot be are refused before any file is made") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  CHECK(status_of(*directory, options_of(0)).code() == Code::kInvalidValue);
  CHECK(status_of(*directory, options_of(1U << 31)).code() == Code::kInvalidValue);
  SlabOptions bad = options_of(10);
  bad.shape.outer = 7;
  CHECK(status_of(*directory, bad).code() == Code::kInvalidValue);
  CHECK_FALSE(exists(slab_path(*directory)));
}

TEST_CASE("a link or a folder in the place of a slab is refused") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  REQUIRE(::symlink("/dev/null", slab_path(*directory).c_str()) == 0);
  CHECK(status_of(*directory, options_of(10)).code() == Code::kNotAStore);
  REQUIRE(::unlink(slab_path(*directory).c_str()) == 0);
  REQUIRE(::mkdir(slab_path(*directory).c_str(), 0700) == 0);
  CHECK(status_of(*directory, options_of(10)).code() == Code::kNotAStore);
  CHECK_FALSE(exists(table_path(*directory)));
}
