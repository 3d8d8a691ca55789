// Failing, short and torn file calls, at every call of a store's life in turn. Must be survived: an error or a short
// transfer of any read, write, reservation or sync; a write of which only a part reached the disk before it failed.
// Never allowed: a block that is found though its store failed, bytes that are not those stored, a lost acknowledged
// block.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "native/storage/slab/slab_rig.h"

using kvtier::Code;
using kvtier::FileIo;
using kvtier::SlabContents;
using kvtier::SlabStorage;
using kvtier::Status;
using namespace kvtier::slab_rig;

namespace {

enum class Fault : std::uint8_t {
  kError,  // the call fails and moves nothing
  kShort,  // the call moves a part
  kTorn,   // the call moves a part, the next one fails
};

// Counts calls and lets one of them fail.
class FaultyIo final : public FileIo {
 public:
  FaultyIo(Fault fault, int fail_at) : fault_(fault), fail_at_(fail_at) {}
  [[nodiscard]] bool reached() const { return calls_ >= fail_at_; }

  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    return transfer(fd, parts, part_count,
                    [&](const iovec* some) { return FileIo::preadv(fd, some, part_count, offset); });
  }
  ssize_t pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    return transfer(fd, parts, part_count,
                    [&](const iovec* some) { return FileIo::pwritev(fd, some, part_count, offset); });
  }
  int allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept override {
    return fails_now() ? EIO : FileIo::allocate(fd, offset, length);
  }
  int sync(int fd) noexcept override { return fails_now() ? EIO : FileIo::sync(fd); }

 private:
  bool fails_now() {
    ++calls_;
    return (fault_ == Fault::kError && calls_ == fail_at_) || (fault_ == Fault::kTorn && calls_ == fail_at_ + 1);
  }

  template <typename Move>
  ssize_t transfer(int fd, const iovec* parts, int part_count, Move move) {
    if (fails_now()) {
      errno = EIO;
      return -1;
    }
    if (fault_ == Fault::kError || calls_ != fail_at_) return move(parts);
    std::vector<iovec> some(parts, parts + part_count);
    std::uint64_t length = 0;
    for (const iovec& part : some) length += part.iov_len;
    // A direct call moves whole pages; here it moves one more than it owns up to.
    const bool direct = (::fcntl(fd, F_GETFL) & O_DIRECT) != 0;
    const std::uint64_t owned = length / 2 + (direct && length > 4096 ? 100 : 0);
    std::uint64_t left = direct ? (owned + 4095) / 4096 * 4096 : owned;
    for (iovec& part : some) {
      part.iov_len = std::min<std::uint64_t>(part.iov_len, left);
      left -= part.iov_len;
    }
    const ssize_t moved = move(some.data());
    return std::min(moved, static_cast<ssize_t>(owned));
  }

  Fault fault_;
  int fail_at_;
  int calls_ = 0;
};

// What a caller was told, by block.
struct Told {
  std::map<std::uint64_t, std::uint32_t> stored;  // block -> slot
  std::set<std::uint64_t> failed;
  std::set<std::uint64_t> erased;
  int errors = 0;
};

void store_run(SlabStorage& slab, std::uint32_t first_slot, const std::vector<std::uint64_t>& numbers, Told& told) {
  const Status status = store(slab, first_slot, numbers);
  told.errors += !status.is_ok();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (status.is_ok()) {
      told.stored[numbers[i]] = first_slot + static_cast<std::uint32_t>(i);
    } else {
      told.failed.insert(numbers[i]);
      CHECK(load(slab, first_slot + static_cast<std::uint32_t>(i), numbers[i]) == Found::kMiss);
    }
  }
}

// A life of a store that exists with blocks 1000 to 1003 in slots 0 to 3 and 5000 in slot 4. Grows it, stores over slot
// 4, erases 1003, reads all that it was told is there.
Told live(const kvtier::StoreDirectory& directory, bool direct) {
  Told told;
  told.stored = {{1000, 0}, {1001, 1}, {1002, 2}};
  auto opened = SlabStorage::open(directory, options_of(12, direct));
  if (!opened.is_ok()) {
    ++told.errors;
    return told;
  }
  SlabStorage& slab = *opened.value();
  if (const auto contents = slab.recover(false); !contents.is_ok()) {
    ++told.errors;
    return told;
  }
  store_run(slab, 4, {2000, 2001, 2002}, told);
  store_run(slab, 8, {3000}, told);
  const std::uint32_t erased = 3;
  if (slab.erase({&erased, 1}).is_ok()) {
    told.erased.insert(1003);
  } else {
    ++told.errors;
  }
  told.errors += !slab.sync().is_ok();
  for (const auto& [number, slot] : told.stored) {
    const Found found = load(slab, slot, number);
    CHECK(found != Found::kWrong);
    told.errors += found != Found::kHit;
  }
  return told;
}

void check_afterwards(const kvtier::StoreDirectory& directory, const Told& told) {
  const auto slab = open_slab_storage(directory, options_of(12));
  const SlabContents contents = recover(*slab);
  std::map<std::uint64_t, std::uint32_t> found;
  for (std::size_t i = 0; i < contents.hashes.size(); ++i) {
    for (const std::uint64_t number : {1000U, 1001U, 1002U, 1003U, 2000U, 2001U, 2002U, 3000U, 5000U}) {
      if (contents.hashes[i] == hash_of(number)) found[number] = contents.slots[i];
    }
  }
  CHECK(found.size() == contents.hashes.size());
  for (const auto& [number, slot] : found) {
    CAPTURE(number);
    CHECK(load(*slab, slot, number) != Found::kWrong);
    CHECK_FALSE(told.failed.contains(number));
    CHECK_FALSE(told.erased.contains(number));
  }
  for (const auto& [number, slot] : told.stored) {
    CAPTURE(number);
    REQUIRE(found.contains(number));
    CHECK(found[number] == slot);
    CHECK(load(*slab, slot, number) == Found::kHit);
  }
}

void make_store(const kvtier::StoreDirectory& directory) {
  const auto slab = open_slab_storage(directory, options_of(8));
  REQUIRE(store(*slab, 0, {1000, 1001, 1002, 1003}).is_ok());
  REQUIRE(store(*slab, 4, {5000}).is_ok());
}

// Runs `check` with a fault at the first call, the second and so on, until a run ends before the fault.
template <typename Check>
void for_each_call(Fault fault, Check check) {
  for (int fail_at = 1;; ++fail_at) {
    CAPTURE(static_cast<int>(fault));
    CAPTURE(fail_at);
    REQUIRE(fail_at < 1000);
    FaultyIo io(fault, fail_at);
    check(io);
    if (!io.reached()) {
      CHECK(fail_at > 5);  // the faults did meet calls
      return;
    }
  }
}

}  // namespace

TEST_CASE(
    "whichever call fails, is short or is torn: no failed block is found, no stored one is lost, no byte is wrong") {
  for (const bool direct : {false, true}) {
    for (const Fault fault : {Fault::kError, Fault::kShort, Fault::kTorn}) {
      for_each_call(fault, [direct, fault](FaultyIo& io) {
        const TemporaryDirectory temporary;
        const auto directory = open_directory(temporary.path());
        make_store(*directory);
        Told told;
        {
          const ScopedFileIo scoped(io);
          told = live(*directory, direct);
        }
        // Short transfers are carried on; nobody hears of them.
        if (fault == Fault::kShort) CHECK(told.errors == 0);
        check_afterwards(*directory, told);
      });
    }
  }
}

TEST_CASE("whichever call of a first opening fails, no file is left behind and the next opening works") {
  for (const Fault fault : {Fault::kError, Fault::kShort, Fault::kTorn}) {
    for_each_call(fault, [fault](FaultyIo& io) {
      const TemporaryDirectory temporary;
      const auto directory = open_directory(temporary.path());
      bool opened = false;
      {
        const ScopedFileIo scoped(io);
        auto slab = SlabStorage::open(*directory, options_of(8));
        opened = slab.is_ok() && slab.value()->recover(false).is_ok() && slab.value()->sync().is_ok();
        if (fault == Fault::kShort) CHECK(opened);
        if (!slab.is_ok()) CHECK_FALSE(std::filesystem::exists(slab_path(*directory)));
        if (!slab.is_ok()) CHECK_FALSE(std::filesystem::exists(table_path(*directory)));
      }
      CHECK((opened || io.reached()));
      const auto slab = open_slab_storage(*directory, options_of(8));
      CHECK(recover(*slab).hashes.empty());
      REQUIRE(store(*slab, 7, {1000}).is_ok());
      CHECK(load(*slab, 7, 1000) == Found::kHit);
    });
  }
}

TEST_CASE("a store whose superblocks cannot be read is an error, never a fresh store") {
  class UnreadableIo final : public FileIo {
   public:
    ssize_t preadv(int, const iovec*, int, std::uint64_t) noexcept override {
      errno = EIO;
      return -1;
    }
  };
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  make_store(*directory);
  UnreadableIo io;
  {
    const ScopedFileIo scoped(io);
    CHECK(SlabStorage::open(*directory, options_of(8)).status().code() == Code::kIo);
  }
  const auto slab = open_slab_storage(*directory, options_of(8));
  CHECK(recover(*slab).hashes.size() == 5);
}

TEST_CASE("an error names the file, the offset, what was asked and what was moved") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(8, false));
  FaultyIo io(Fault::kTorn, 1);
  const ScopedFileIo scoped(io);
  const Status status = store(*slab, 2, {1000, 2000});
  CHECK(status.code() == Code::kIo);
  for (const std::string& part : {slab_path(*directory), std::string("writing 16384 bytes at 16384"),
                                  std::string("8192 were moved"), std::string("Input/output error")}) {
    CAPTURE(status.message());
    CHECK(status.message().find(part) != std::string::npos);
  }
}

TEST_CASE("a read beyond the end of a slab that was cut while it was open is an error") {
  for (const bool direct : {false, true}) {
    const TemporaryDirectory temporary;
    const auto directory = open_directory(temporary.path());
    const auto slab = open_slab_storage(*directory, options_of(8, direct));
    REQUIRE(store(*slab, 0, {1000, 2000, 3000}).is_ok());
    REQUIRE(::truncate(slab_path(*directory).c_str(), kStride + 100) == 0);
    const Payloads payloads(3);
    const std::vector<std::byte*> targets = payloads.pointers();
    CHECK(slab->read_run(0, targets).code() == Code::kIo);
    CHECK(load(*slab, 0, 1000) == Found::kHit);
    CHECK(load(*slab, 1, 2000) == Found::kMiss);
  }
}

TEST_CASE("a disk that moves nothing is an error and not a hang") {
  class StuckIo final : public FileIo {
   public:
    ssize_t pwritev(int, const iovec*, int, std::uint64_t) noexcept override { return bytes; }
    ssize_t bytes = 0;
  };
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  const auto slab = open_slab_storage(*directory, options_of(8, true));
  StuckIo io;
  const ScopedFileIo scoped(io);
  CHECK(store(*slab, 0, {1000}).code() == Code::kIo);
  if (slab->direct()) {
    io.bytes = 100;  // never a whole page
    CHECK(store(*slab, 0, {1000}).code() == Code::kIo);
  }
}

TEST_CASE("a sync that failed fails from then on, until the slab is opened again") {
  class NoSyncIo final : public FileIo {
   public:
    int sync(int) noexcept override { return EIO; }
  };
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  auto slab = open_slab_storage(*directory, options_of(8));
  REQUIRE(store(*slab, 0, {1000}).is_ok());
  CHECK(slab->sync().is_ok());
  {
    NoSyncIo io;
    const ScopedFileIo scoped(io);
    CHECK(slab->sync().code() == Code::kIo);
  }
  // The system may have thrown away what it could not write, and says nothing of it a second time.
  const Status later = slab->sync();
  CHECK(later.code() == Code::kIo);
  CHECK(later.message().find("an earlier sync failed") == 0);
  REQUIRE(store(*slab, 1, {2000}).is_ok());
  CHECK(slab->sync().code() == Code::kIo);
  CHECK(load(*slab, 1, 2000) == Found::kHit);
  slab.reset();
  slab = open_slab_storage(*directory, options_of(8));
  CHECK(slab->sync().is_ok());
}

namespace {

// A disk that cannot read some pages of 4 KiB, by their offsets in the file; what is before the first one is read.
class BadPagesIo final : public FileIo {
 public:
  explicit BadPagesIo(std::function<bool(std::uint64_t offset)> is_bad) : is_bad_(std::move(is_bad)) {}
  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override {
    std::uint64_t length = 0;
    for (int i = 0; i < part_count; ++i) length += parts[i].iov_len;
    std::uint64_t good = offset;
    while (good < offset + length && !is_bad_(good / 4096 * 4096)) good = good / 4096 * 4096 + 4096;
    if (good >= offset + length) return FileIo::preadv(fd, parts, part_count, offset);
    ++failures;
    if (good <= offset) {
      errno = EIO;
      return -1;
    }
    iovec first = parts[0];
    first.iov_len = std::min<std::uint64_t>(first.iov_len, good - offset);
    return FileIo::preadv(fd, &first, 1, offset);
  }
  int failures = 0;

 private:
  std::function<bool(std::uint64_t)> is_bad_;
};

constexpr std::uint64_t kFirstRecord = 8192;

// A store of `count` blocks without parents.
void fill_store(const kvtier::StoreDirectory& directory, std::uint32_t count) {
  const auto slab = open_slab_storage(directory, options_of(count));
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t i = 1; i <= count; ++i) numbers.push_back(i * 1000);
  REQUIRE(store(*slab, 0, numbers).is_ok());
}

}  // namespace

TEST_CASE("where a table cannot be read, its records are missing and all others are there") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  fill_store(*directory, 300);
  const auto slab = open_slab_storage(*directory, options_of(300));
  // The third page of records and the last, which is not whole.
  BadPagesIo io(
      [](std::uint64_t offset) { return offset == kFirstRecord + 2 * 4096 || offset == kFirstRecord + 9 * 4096; });
  SlabContents contents;
  {
    const ScopedFileIo scoped(io);
    contents = recover(*slab);
  }
  CHECK(contents.records_unreadable == 32 + 12);
  CHECK(contents.hashes.size() == 300 - 44);
  for (const std::uint32_t slot : contents.slots) CHECK((slot < 64 || (slot >= 96 && slot < 288)));
  CHECK(contents.records_rejected == 0);
  CHECK(contents.next_sequence == 289);
  CHECK(load(*slab, 100, 101 * 1000) == Found::kHit);
  CHECK(load(*slab, 70, 71 * 1000) == Found::kMiss);
  // The disk has recovered.
  const SlabContents whole = recover(*slab);
  CHECK(whole.hashes.size() == 300);
  CHECK(whole.records_unreadable == 0);
}

TEST_CASE("a table of which nothing can be read, or too much cannot, is an error and not an empty store") {
  const TemporaryDirectory temporary;
  const auto directory = open_directory(temporary.path());
  fill_store(*directory, 100);
  {
    const auto slab = open_slab_storage(*directory, options_of(100));
    BadPagesIo io([](std::uint64_t offset) { return offset >= kFirstRecord; });
    const ScopedFileIo scoped(io);
    CHECK(slab->recover(false).status().code() == Code::kIo);
  }
  const auto slab = open_slab_storage(*directory, options_of(20000));
  BadPagesIo io([](std::uint64_t offset) { return offset >= kFirstRecord + 4096; });
  const ScopedFileIo scoped(io);
  CHECK(slab->recover(false).status().code() == Code::kIo);
  CHECK(io.failures < 300);
}
