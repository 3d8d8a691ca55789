// What the engine's tests stand on: a gate that holds threads, a disk in memory that goes through it and fails where it
// is told to, and a listener that keeps the reports. Any thread.
#pragma once

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "storage/memory/memory_storage.h"
#include "storage/storage.h"
#include "transfer/engine.h"

namespace kvtier {

inline GroupShape small_shape() {
  return {.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 60};
}

inline SequenceHash hash_of(std::uint32_t number) {
  SequenceHash hash{};
  std::memcpy(hash.data(), &number, sizeof number);
  hash[31] = 1;
  return hash;
}

// Holds the threads that pass it while it is shut.
class Gate {
 public:
  void shut() {
    const std::lock_guard guard(mutex_);
    shut_ = true;
  }
  void open() {
    {
      const std::lock_guard guard(mutex_);
      shut_ = false;
    }
    changed_.notify_all();
  }
  // Lets one of those that wait, or the next that comes, pass.
  void let_one() {
    {
      const std::lock_guard guard(mutex_);
      ++passes_;
    }
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !shut_ || passes_ > 0; });
    if (shut_) --passes_;
    --waiting_;
    changed_.notify_all();
  }
  void wait_for(unsigned waiting) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= waiting; });
  }
  unsigned waiting() {
    const std::lock_guard guard(mutex_);
    return waiting_;
  }

 private:
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  bool shut_ = false;
  unsigned passes_ = 0;
  unsigned waiting_ = 0;
};

// What a FakeDisk did and must do; outlives it.
struct DiskControl {
  Gate gate;
  std::mutex mutex;  // guards all below
  std::set<std::uint32_t> bad_slots;
  bool holds_end = false;        // destroying the disk goes through the gate too
  std::vector<std::string> log;  // "read 3+2", "write 0+4", "erase 7+1", "sync 0+0", "end 0+0"
  unsigned destroyed = 0;

  std::vector<std::string> entries() {
    const std::lock_guard guard(mutex);
    return log;
  }
  bool is_destroyed() {
    const std::lock_guard guard(mutex);
    return destroyed > 0;
  }
};

class FakeDisk final : public Storage {
 public:
  // `disk`: its number among the machine's disks.
  FakeDisk(const GroupShape& shape, std::uint32_t slot_count, DiskControl& control, std::uint64_t disk = 1)
      : control_(control), bytes_(slot_count * shape.slot_stride()), checksums_(slot_count) {
    info_ = {.kind = "fake",
             .shape = shape,
             .slot_count = slot_count,
             .slot_stride = shape.slot_stride(),
             .host_addressable = false,
             .keeps_checksums = true,
             .persistent = true,
             .disk = disk};
  }
  ~FakeDisk() override {
    bool holds_end = false;
    {
      const std::lock_guard guard(control_.mutex);
      holds_end = control_.holds_end;
    }
    if (holds_end) static_cast<void>(enter("end", 0, 0));
    const std::lock_guard guard(control_.mutex);
    ++control_.destroyed;
  }

  const StorageInfo& info() const noexcept override { return info_; }
  Checksum checksum_at(std::uint32_t slot) const noexcept override { return checksums_[slot]; }
  Status write_run(std::uint32_t first_slot, std::span<const std::byte* const> payloads,
                   std::span<const BlockRecord> records) noexcept override {
    if (Status status = enter("write", first_slot, payloads.size()); !status.is_ok()) return status;
    for (std::size_t i = 0; i < payloads.size(); ++i) {
      std::memcpy(at(first_slot + i), payloads[i], info_.slot_stride);
      checksums_[first_slot + i] = records[i].checksum;
    }
    return Status::ok();
  }
  Status read_run(std::uint32_t first_slot, std::span<std::byte* const> payloads) noexcept override {
    if (Status status = enter("read", first_slot, payloads.size()); !status.is_ok()) return status;
    for (std::size_t i = 0; i < payloads.size(); ++i) {
      std::memcpy(payloads[i], at(first_slot + i), info_.slot_stride);
    }
    return Status::ok();
  }
  Status erase(std::span<const std::uint32_t> slots) noexcept override {
    return enter("erase", slots[0], slots.size());
  }
  Status sync() noexcept override { return enter("sync", 0, 0); }
  std::byte* at(std::size_t slot) { return bytes_.data() + slot * info_.slot_stride; }

 private:
  Status enter(const char* what, std::uint32_t first, std::size_t count) {
    {
      const std::lock_guard guard(control_.mutex);
      control_.log.push_back(std::string(what) + " " + std::to_string(first) + "+" + std::to_string(count));
    }
    control_.gate.pass();
    const std::lock_guard guard(control_.mutex);
    for (std::size_t i = 0; i < count; ++i) {
      if (control_.bad_slots.contains(first + static_cast<std::uint32_t>(i))) {
        return Status(Code::kIo, "slot " + std::to_string(first + i) + " is bad");
      }
    }
    return Status::ok();
  }

  StorageInfo info_;
  DiskControl& control_;
  std::vector<std::byte> bytes_;
  std::vector<Checksum> checksums_;
};

// Keeps what was reported, and waits for it.
class Reports final : public Listener {
 public:
  struct Entry {
    unsigned ready = 0;
    unsigned done = 0;
    unsigned settled = 0;
    bool in_order = true;
    Code code = Code::kOk;
    std::string message;
    std::vector<Outcome> outcomes;
  };

  void report(Report&& report) noexcept override {
    {
      const std::lock_guard guard(mutex_);
      ++count_;
      Entry& entry = entries_[report.ticket];
      if (report.ready) {
        ++entry.ready;
        entry.in_order = entry.in_order && entry.done == 0;
      }
      if (report.done) {
        ++entry.done;
        entry.outcomes = std::move(report.outcomes);
        entry.message = std::move(report.message);
      }
      if (report.settled) {
        ++entry.settled;
        entry.in_order = entry.in_order && entry.done > 0;
        settled_.push_back(report.ticket);
      }
      entry.code = report.code;
    }
    changed_.notify_all();
  }
  void storage_closed(std::uint64_t) noexcept override {}

  Entry ready(std::uint32_t ticket) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return entries_[ticket].ready > 0; });
    return entries_[ticket];
  }
  Entry done(std::uint32_t ticket) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return entries_[ticket].done > 0; });
    return entries_[ticket];
  }
  Entry settled(std::uint32_t ticket) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return entries_[ticket].settled > 0; });
    return entries_[ticket];
  }
  Entry now(std::uint32_t ticket) {
    const std::lock_guard guard(mutex_);
    return entries_[ticket];
  }
  std::vector<std::uint32_t> settled_order() {
    const std::lock_guard guard(mutex_);
    return settled_;
  }
  // Calls of report() so far.
  unsigned count() {
    const std::lock_guard guard(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::map<std::uint32_t, Entry> entries_;
  std::vector<std::uint32_t> settled_;
  unsigned count_ = 0;
};

inline std::unique_ptr<MemoryStorage> make_memory(LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count) {
  auto storage = MemoryStorage::allocate(kind, shape, slot_count, HostBufferOptions{.prefault = false, .threads = 1});
  KVTIER_CHECK(storage.is_ok());
  return std::move(storage).value();
}

}  // namespace kvtier
