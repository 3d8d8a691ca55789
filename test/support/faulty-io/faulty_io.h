// The system calls of a disk tier with faults in them: errors, short transfers, flipped bits, lost and misdirected
// writes, each with a chance a call, from a seed; and a gate that holds every call. A test build puts it behind the
// seam of native/platform/file_io.h. Any thread; with more than one, the order of calls decides which of them a fault
// hits.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "platform/file_io.h"

namespace kvtier {

// Chances are 0 to 1 a call.
struct FaultProfile {
  std::uint64_t seed = 0;
  double read_error = 0;         // fails with EIO
  double write_error = 0;        // fails with EIO
  double write_no_space = 0;     // fails with ENOSPC
  double short_read = 0;         // moves fewer bytes than asked for
  double short_write = 0;        // moves fewer bytes than asked for
  double read_flip = 0;          // flips one bit of what was read
  double write_flip = 0;         // writes a flipped bit and reports success
  double lost_write = 0;         // writes nothing and reports success
  double misdirected_write = 0;  // writes 4 KiB further and reports success
  std::uint64_t fail_call = 0;   // the n-th call of any kind fails with EIO, from 1; 0: none
};

class FaultyIo final : public FileIo {
 public:
  // The process's only one; it is behind the seam from the first use on.
  static FaultyIo& instance();

  // Counts start at 0 again.
  void set_faults(const FaultProfile& profile);
  // Calls, and faults put into them, since the last set_faults().
  [[nodiscard]] std::uint64_t calls();
  [[nodiscard]] std::uint64_t faults();

  // Every call from now on waits for release().
  void hold();
  void release();
  // Calls that wait now.
  [[nodiscard]] std::uint32_t held();

  ssize_t preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override;
  ssize_t pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept override;
  int allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept override;
  int sync(int fd) noexcept override;

 private:
  enum class Fault : std::uint8_t { kNone, kError, kNoSpace, kShort, kFlip, kLost, kMisdirected };
  struct Choice {
    double chance;
    Fault fault;
  };
  // What happens to a call, and a random number to do it with.
  struct Fate {
    Fault fault = Fault::kNone;
    std::uint64_t random = 0;
  };

  FaultyIo() = default;
  using Choices = std::array<Choice, 6>;
  // Counts the call, waits while calls are held, and draws its fate.
  [[nodiscard]] Fate enter(Choices (*choices)(const FaultProfile&)) noexcept;
  [[nodiscard]] std::uint64_t next_random() noexcept;

  std::mutex mutex_;  // guards all below
  std::condition_variable released_;
  FaultProfile profile_;
  std::uint64_t state_ = 0;
  std::uint64_t calls_ = 0;
  std::uint64_t faults_ = 0;
  bool holding_ = false;
  std::uint32_t held_ = 0;
};

}  // namespace kvtier
