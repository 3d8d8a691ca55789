// Who may open a store, what it finds, and what it says when it may not. Runs as root and as another user.
#include "storage/slab/store_directory.h"

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <thread>

#include "native/storage/slab/slab_rig.h"
#include "storage/slab/store_secret.h"

using kvtier::Code;
using kvtier::Status;
using kvtier::StoreDirectory;
using kvtier::slab_rig::fingerprint_of;
using kvtier::slab_rig::open_directory;
using kvtier::slab_rig::TemporaryDirectory;

namespace {

Status status_of(const std::string& root, std::uint8_t fingerprint = 1) {
  return StoreDirectory::open(root, fingerprint_of(fingerprint)).status();
}

bool says(const Status& status, const std::string& text) {
  return status.message().find(text) != std::string::npos;
}

unsigned mode_of(const std::string& path) {
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  return about.st_mode & 0777U;
}

void make_file(const std::string& path) {
  std::ofstream(path) << "x";
}

}  // namespace

TEST_CASE("opening makes the root, its parents and the store, for the owner only") {
  const TemporaryDirectory temporary;
  const std::string root = temporary.path() + "/a/b/c";
  const auto directory = open_directory(root);
  CHECK(directory->path() == root + "/v1/01000000000000000000000000000000");
  CHECK((directory->fingerprint() == fingerprint_of(1)));
  CHECK_FALSE(directory->read_only());
  for (const std::string& path : {temporary.path() + "/a", root, root + "/v1", directory->path()}) {
    CHECK(mode_of(path) == 0700);
  }
  CHECK(mode_of(directory->path() + "/LOCK") == 0600);
  CHECK(mode_of(root + "/v1/secret") == 0600);
}

TEST_CASE("a store is open once: a second opening in this process is refused until the first is closed") {
  const TemporaryDirectory temporary;
  auto first = open_directory(temporary.path());
  const Status second = status_of(temporary.path());
  CHECK(second.code() == Code::kLocked);
  CHECK(says(second, "this process (pid " + std::to_string(::getpid()) + ")"));
  first.reset();
  CHECK(status_of(temporary.path()).is_ok());
}

TEST_CASE("stores of two fingerprints in one root do not disturb each other") {
  const TemporaryDirectory temporary;
  const auto first = open_directory(temporary.path(), 1);
  const auto second = open_directory(temporary.path(), 2);
  CHECK(first->path() != second->path());
  CHECK((first->secret() == second->secret()));
}

TEST_CASE("a store held by another process is refused with that process's pid, and free once it is killed") {
  const TemporaryDirectory temporary;
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto held = StoreDirectory::open(temporary.path(), fingerprint_of(1));
    const char word = held.is_ok() ? 'y' : 'n';
    if (::write(ready[1], &word, 1) == 1) ::pause();
    ::_exit(1);
  }
  char word = 0;
  CHECK(::read(ready[0], &word, 1) == 1);
  CHECK(word == 'y');
  const Status refused = status_of(temporary.path());
  CHECK(refused.code() == Code::kLocked);
  CHECK(says(refused, "process " + std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(status_of(temporary.path()).is_ok());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("a lock file without a readable pid still locks") {
  const TemporaryDirectory temporary;
  const auto held = open_directory(temporary.path());
  REQUIRE(::truncate((held->path() + "/LOCK").c_str(), 0) == 0);
  const Status refused = status_of(temporary.path());
  CHECK(refused.code() == Code::kLocked);
  CHECK(says(refused, "another process"));
}

TEST_CASE("a root that is a file, or lies below one, is not a directory") {
  const TemporaryDirectory temporary;
  const std::string file = temporary.path() + "/file";
  make_file(file);
  CHECK(status_of(file).code() == Code::kNotADirectory);
  CHECK(status_of(file + "/below/it").code() == Code::kNotADirectory);
  CHECK(says(status_of(file), file));
}

TEST_CASE("an empty root and one with a zero byte are invalid") {
  CHECK(status_of("").code() == Code::kInvalidValue);
  CHECK(status_of(std::string("/tmp/a\0b", 8)).code() == Code::kInvalidValue);
}

TEST_CASE("a root that others may write to is refused with the chmod to run") {
  const TemporaryDirectory temporary;
  for (const mode_t mode : {0770U, 0707U, 0777U}) {
    REQUIRE(::chmod(temporary.path().c_str(), mode) == 0);
    const Status status = status_of(temporary.path());
    CHECK(status.code() == Code::kUnsafeDirectory);
    CHECK(says(status, "chmod go-w '" + temporary.path() + "'"));
  }
  REQUIRE(::chmod(temporary.path().c_str(), 0755) == 0);
  CHECK(status_of(temporary.path()).is_ok());
}

TEST_CASE("a store directory that others may write to is refused") {
  const TemporaryDirectory temporary;
  const std::string path = open_directory(temporary.path())->path();
  REQUIRE(::chmod(path.c_str(), 0777) == 0);
  const Status status = status_of(temporary.path());
  CHECK(status.code() == Code::kUnsafeDirectory);
  CHECK(says(status, "chmod go-w '" + path + "'"));
}

TEST_CASE("a directory of another user is refused with the chown to run") {
  const TemporaryDirectory temporary;
  if (::chown(temporary.path().c_str(), 54321, static_cast<gid_t>(-1)) != 0) {
    MESSAGE("skipped: only root can give a directory away");
    return;
  }
  const Status status = status_of(temporary.path());
  CHECK(status.code() == Code::kUnsafeDirectory);
  CHECK(says(status, "belongs to user 54321"));
  CHECK(says(status, "chown " + std::to_string(::geteuid()) + " '" + temporary.path() + "'"));
}

TEST_CASE("a root that cannot be written is not writable") {
  if (::geteuid() == 0) {
    MESSAGE("skipped: root may write anywhere");
    return;
  }
  const TemporaryDirectory temporary;
  REQUIRE(::chmod(temporary.path().c_str(), 0500) == 0);
  CHECK(status_of(temporary.path()).code() == Code::kNotWritable);
  CHECK(status_of(temporary.path() + "/below").code() == Code::kNotWritable);
  REQUIRE(::chmod(temporary.path().c_str(), 0700) == 0);
}

TEST_CASE("links below the root are not followed, the root itself may be one") {
  const TemporaryDirectory temporary;
  const TemporaryDirectory elsewhere;
  const std::string root = temporary.path() + "/root";
  REQUIRE(::mkdir(root.c_str(), 0700) == 0);
  REQUIRE(::symlink(elsewhere.path().c_str(), (root + "/v1").c_str()) == 0);
  CHECK(status_of(root).code() == Code::kNotADirectory);
  REQUIRE(::unlink((root + "/v1").c_str()) == 0);

  const std::string path = open_directory(root)->path();
  REQUIRE(::unlink((path + "/LOCK").c_str()) == 0);
  make_file(elsewhere.path() + "/target");
  REQUIRE(::symlink((elsewhere.path() + "/target").c_str(), (path + "/LOCK").c_str()) == 0);
  CHECK_FALSE(status_of(root).is_ok());
  REQUIRE(::unlink((path + "/LOCK").c_str()) == 0);

  const std::string link = temporary.path() + "/link";
  REQUIRE(::symlink(root.c_str(), link.c_str()) == 0);
  CHECK(status_of(link).is_ok());
}

TEST_CASE("the secret is made once, is random, and is the same at every opening") {
  const TemporaryDirectory temporary;
  const auto secret = open_directory(temporary.path())->secret();
  CHECK_FALSE(std::ranges::all_of(secret, [](std::uint8_t byte) { return byte == 0; }));
  CHECK((open_directory(temporary.path())->secret() == secret));
  const TemporaryDirectory other;
  CHECK_FALSE((open_directory(other.path())->secret() == secret));
  // Nothing but the store and the secret is left in the folder.
  const std::filesystem::directory_iterator entries(temporary.path() + "/v1");
  CHECK(std::distance(begin(entries), end(entries)) == 2);
}

TEST_CASE("openings that race for the secret all get the same one") {
  for (int round = 0; round < 20; ++round) {
    const TemporaryDirectory temporary;
    std::vector<std::array<std::uint8_t, 32>> secrets(6);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < secrets.size(); ++i) {
      threads.emplace_back([&temporary, &secrets, i] {
        auto directory = StoreDirectory::open(temporary.path(), fingerprint_of(static_cast<std::uint8_t>(i)));
        if (directory.is_ok()) secrets[i] = directory.value()->secret();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& secret : secrets) {
      CHECK((secret == secrets[0]));
      CHECK((secret != std::array<std::uint8_t, 32>{}));
    }
  }
}

TEST_CASE("a damaged secret is an error that says what to do, and so is one that others can read") {
  const TemporaryDirectory temporary;
  (void)open_directory(temporary.path());
  const std::string path = temporary.path() + "/v1/secret";
  REQUIRE(::truncate(path.c_str(), 31) == 0);
  CHECK(status_of(temporary.path()).code() == Code::kIo);
  CHECK(says(status_of(temporary.path()), "Delete it"));
  REQUIRE(::truncate(path.c_str(), 33) == 0);
  CHECK(status_of(temporary.path()).code() == Code::kIo);
  REQUIRE(::truncate(path.c_str(), 32) == 0);
  CHECK(status_of(temporary.path()).is_ok());
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  CHECK(status_of(temporary.path()).code() == Code::kUnsafeDirectory);
}

TEST_CASE("looking only needs a directory with a table, and takes no lock") {
  const TemporaryDirectory temporary;
  const std::string missing = temporary.path() + "/missing";
  CHECK(StoreDirectory::open_read_only(missing).status().code() == Code::kNotAStore);
  make_file(temporary.path() + "/file");
  CHECK(StoreDirectory::open_read_only(temporary.path() + "/file").status().code() == Code::kNotADirectory);
  const Status empty = StoreDirectory::open_read_only(temporary.path()).status();
  CHECK(empty.code() == Code::kNotAStore);
  CHECK(says(empty, "<root>/v1"));

  const auto held = open_directory(temporary.path() + "/root", 9);
  const auto slab = kvtier::slab_rig::open_slab_storage(*held, kvtier::slab_rig::options_of(4));
  const auto looked = StoreDirectory::open_read_only(held->path());
  REQUIRE(looked.is_ok());
  CHECK(looked.value()->read_only());
  CHECK((looked.value()->fingerprint() == fingerprint_of(9)));
}

TEST_CASE("looking only at a directory whose table is garbage finds no store") {
  const TemporaryDirectory temporary;
  std::ofstream(temporary.path() + "/group-0.table") << std::string(10000, 'x');
  CHECK(StoreDirectory::open_read_only(temporary.path()).status().code() == Code::kNotAStore);
}

namespace {

int lacking(int, const char*, const char*) noexcept {
  return EPERM;
}
int unknown_flag(int, const char*, const char*) noexcept {
  return EINVAL;
}
int failing(int, const char*, const char*) noexcept {
  return EIO;
}

}  // namespace

TEST_CASE("a file system without hard links, or without any way to name a finished file, gets a secret too") {
  const kvtier::NamingCalls& real = kvtier::system_naming_calls();
  for (const kvtier::NamingCalls calls :
       {kvtier::NamingCalls{&lacking, real.rename}, kvtier::NamingCalls{&lacking, &unknown_flag}}) {
    const TemporaryDirectory temporary;
    const kvtier::FileDescriptor folder(::open(temporary.path().c_str(), O_RDONLY | O_DIRECTORY));
    const auto made = kvtier::load_or_make_secret(folder.get(), temporary.path(), calls);
    REQUIRE(made.is_ok());
    CHECK(mode_of(temporary.path() + "/secret") == 0600);
    // What is there stays, whichever way it would be made.
    CHECK((kvtier::load_or_make_secret(folder.get(), temporary.path(), calls).value() == made.value()));
    CHECK((kvtier::load_or_make_secret(folder.get(), temporary.path()).value() == made.value()));
    const std::filesystem::directory_iterator entries(temporary.path());
    CHECK(std::distance(begin(entries), end(entries)) == 1);
  }
}

TEST_CASE("a secret that another process made first is the one, in each way of naming") {
  const kvtier::NamingCalls& real = kvtier::system_naming_calls();
  for (const kvtier::NamingCalls calls : {real, kvtier::NamingCalls{&lacking, real.rename}}) {
    for (int round = 0; round < 20; ++round) {
      const TemporaryDirectory temporary;
      const kvtier::FileDescriptor folder(::open(temporary.path().c_str(), O_RDONLY | O_DIRECTORY));
      std::vector<kvtier::StoreSecret> secrets(4);
      std::vector<std::thread> threads;
      for (kvtier::StoreSecret& secret : secrets) {
        threads.emplace_back([&] {
          const auto made = kvtier::load_or_make_secret(folder.get(), temporary.path(), calls);
          if (made.is_ok()) secret = made.value();
        });
      }
      for (std::thread& thread : threads) thread.join();
      for (const kvtier::StoreSecret& secret : secrets) CHECK((secret == secrets[0]));
      CHECK((secrets[0] != kvtier::StoreSecret{}));
    }
  }
}

TEST_CASE("a secret that cannot be named for another reason is an error, and leaves nothing behind") {
  const TemporaryDirectory temporary;
  const kvtier::FileDescriptor folder(::open(temporary.path().c_str(), O_RDONLY | O_DIRECTORY));
  for (const kvtier::NamingCalls calls :
       {kvtier::NamingCalls{&failing, &failing}, kvtier::NamingCalls{&lacking, &failing}}) {
    CHECK(kvtier::load_or_make_secret(folder.get(), temporary.path(), calls).status().code() == Code::kIo);
    CHECK(std::filesystem::is_empty(temporary.path()));
  }
}
