// Files that are locked: once each, whatever is deleted or replaced beside them.
#include "storage/slab/file_lock.h"

#include <doctest/doctest.h>

#include "native/storage/slab/slab_rig.h"

using kvtier::Code;
using kvtier::SlabStorage;
using kvtier::Status;
using kvtier::StoreDirectory;
using namespace kvtier::slab_rig;

namespace {

bool says(const Status& status, const std::string& text) {
  return status.message().find(text) != std::string::npos;
}

Status status_of(const StoreDirectory& directory) {
  return SlabStorage::open(directory, options_of(10)).status();
}

}  // namespace

TEST_CASE("a lock is taken on the file that has the name, however often it is replaced meanwhile") {
  const TemporaryDirectory temporary;
  const kvtier::FileDescriptor folder(::open(temporary.path().c_str(), O_RDONLY | O_DIRECTORY));
  const std::string path = temporary.path() + "/LOCK";
  const auto open_lock = [&] { return ::openat(folder.get(), "LOCK", O_RDWR | O_CREAT, 0600); };
  int openings = 0;
  const auto locked = kvtier::open_locked(folder.get(), "LOCK", path, [&] {
    const int fd = open_lock();
    // Deleted after the first opening, deleted and made anew after the second.
    if (++openings <= 2) REQUIRE(::unlink(path.c_str()) == 0);
    if (openings == 2) std::ofstream(path) << "x";
    return fd;
  });
  REQUIRE(locked.is_ok());
  CHECK(locked.value().taken);
  CHECK(openings == 3);
  const auto second = kvtier::open_locked(folder.get(), "LOCK", path, open_lock);
  REQUIRE(second.is_ok());
  CHECK_FALSE(second.value().taken);

  const auto hopeless = kvtier::open_locked(folder.get(), "OTHER", temporary.path() + "/OTHER", [&] {
    const int fd = ::openat(folder.get(), "OTHER", O_RDWR | O_CREAT, 0600);
    REQUIRE(::unlinkat(folder.get(), "OTHER", 0) == 0);
    return fd;
  });
  CHECK(hopeless.status().code() == Code::kIo);
  const auto missing = kvtier::open_locked(folder.get(), "NONE", temporary.path() + "/NONE",
                                           [&] { return ::openat(folder.get(), "NONE", O_RDWR); });
  CHECK_FALSE(missing.is_ok());
  CHECK(says(missing.status(), temporary.path() + "/NONE"));
}

TEST_CASE("a group is open once, also where LOCK was deleted meanwhile") {
  const TemporaryDirectory temporary;
  const auto first = open_directory(temporary.path());
  auto slab = open_slab_storage(*first, options_of(10));
  CHECK(status_of(*first).code() == Code::kLocked);

  REQUIRE(::unlink((first->path() + "/LOCK").c_str()) == 0);
  const auto second = open_directory(temporary.path());
  const Status refused = status_of(*second);
  CHECK(refused.code() == Code::kLocked);
  CHECK(says(refused, table_path(*second)));
  // Whoever looks needs no lock.
  const auto looked = StoreDirectory::open_read_only(second->path());
  REQUIRE(looked.is_ok());
  CHECK(SlabStorage::open_read_only(*looked.value(), 0).is_ok());
  REQUIRE(store(*slab, 3, {1000}).is_ok());
  slab.reset();
  slab = open_slab_storage(*second, options_of(10));
  CHECK(recover(*slab).hashes.size() == 1);
}

TEST_CASE("a table that was deleted while it was open does not let a second opening at its slab") {
  const TemporaryDirectory temporary;
  const auto first = open_directory(temporary.path());
  auto slab = open_slab_storage(*first, options_of(10));
  REQUIRE(store(*slab, 3, {1000}).is_ok());
  for (const char* name : {"/LOCK", "/group-0.table"}) REQUIRE(::unlink((first->path() + name).c_str()) == 0);
  const auto second = open_directory(temporary.path());
  CHECK(status_of(*second).code() == Code::kLocked);
  // The table that was made for it is gone again.
  CHECK_FALSE(std::filesystem::exists(table_path(*second)));
  CHECK(load(*slab, 3, 1000) == Found::kHit);
}
