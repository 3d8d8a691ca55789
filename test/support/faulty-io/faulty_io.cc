#include "support/faulty-io/faulty_io.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace kvtier {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kMisdirection = 4096;

std::uint64_t length_of(const iovec* parts, int part_count) noexcept {
  std::uint64_t length = 0;
  for (int i = 0; i < part_count; ++i) length += parts[i].iov_len;
  return length;
}

// The parts' first `length` bytes.
std::vector<iovec> first_bytes(const iovec* parts, int part_count, std::uint64_t length) {
  std::vector<iovec> cut;
  for (int i = 0; i < part_count && length > 0; ++i) {
    iovec part = parts[i];
    part.iov_len = std::min<std::uint64_t>(part.iov_len, length);
    length -= part.iov_len;
    cut.push_back(part);
  }
  return cut;
}

bool is_direct(int fd) noexcept {
#if defined(O_DIRECT)
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0;
#else
  static_cast<void>(fd);
  return false;
#endif
}

// How many bytes a short call moves: at least one and fewer than all; whole pages where the file is open for direct
// I/O, as the system does it. The whole length where that leaves nothing to cut.
std::uint64_t short_length(int fd, std::uint64_t length, std::uint64_t random) noexcept {
  const std::uint64_t unit = is_direct(fd) ? kPageBytes : 1;
  const std::uint64_t units = length / unit;
  return units < 2 ? length : (1 + random % (units - 1)) * unit;
}

void flip_bit(const iovec* parts, int part_count, std::uint64_t length, std::uint64_t random) noexcept {
  if (length == 0) return;
  std::uint64_t at = random % length;
  for (int i = 0; i < part_count; ++i) {
    if (at < parts[i].iov_len) {
      static_cast<unsigned char*>(parts[i].iov_base)[at] ^= static_cast<unsigned char>(1u << (random >> 61));
      return;
    }
    at -= parts[i].iov_len;
  }
}

struct Free {
  void operator()(void* pointer) const noexcept { std::free(pointer); }
};
using PageBuffer = std::unique_ptr<void, Free>;

// One aligned copy of all parts, so that the caller's bytes stay as they are.
PageBuffer gather(const iovec* parts, int part_count, std::uint64_t length) {
  PageBuffer buffer(std::aligned_alloc(kPageBytes, (length / kPageBytes + 1) * kPageBytes));
  auto* at = static_cast<unsigned char*>(buffer.get());
  for (int i = 0; i < part_count; ++i) {
    std::memcpy(at, parts[i].iov_base, parts[i].iov_len);
    at += parts[i].iov_len;
  }
  return buffer;
}

}  // namespace

FaultyIo& FaultyIo::instance() {
  // Never destroyed, so that a thread that outlives main() finds it.
  static FaultyIo* io = [] {
    auto* made = new FaultyIo();
    replace_file_io(made);
    return made;
  }();
  return *io;
}

void FaultyIo::set_faults(const FaultProfile& profile) {
  const std::lock_guard guard(mutex_);
  profile_ = profile;
  state_ = profile.seed;
  calls_ = 0;
  faults_ = 0;
}

std::uint64_t FaultyIo::calls() {
  const std::lock_guard guard(mutex_);
  return calls_;
}

std::uint64_t FaultyIo::faults() {
  const std::lock_guard guard(mutex_);
  return faults_;
}

void FaultyIo::hold() {
  const std::lock_guard guard(mutex_);
  holding_ = true;
}

void FaultyIo::release() {
  {
    const std::lock_guard guard(mutex_);
    holding_ = false;
  }
  released_.notify_all();
}

std::uint32_t FaultyIo::held() {
  const std::lock_guard guard(mutex_);
  return held_;
}

std::uint64_t FaultyIo::next_random() noexcept {
  // SplitMix64.
  state_ += 0x9e3779b97f4a7c15u;
  std::uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

FaultyIo::Fate FaultyIo::enter(Choices (*choices)(const FaultProfile&)) noexcept {
  std::unique_lock lock(mutex_);
  ++held_;
  released_.wait(lock, [this] { return !holding_; });
  --held_;
  ++calls_;
  Fate fate;
  if (profile_.fail_call != 0 && calls_ == profile_.fail_call) fate.fault = Fault::kError;
  for (const Choice& choice : choices(profile_)) {
    // Drawn for every choice, so that one profile's other chances do not shift when one of them changes.
    const double drawn = static_cast<double>(next_random() >> 11) * 0x1.0p-53;
    if (fate.fault == Fault::kNone && drawn < choice.chance) fate.fault = choice.fault;
  }
  fate.random = next_random();
  if (fate.fault != Fault::kNone) ++faults_;
  return fate;
}

ssize_t FaultyIo::preadv(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept {
  const Fate fate = enter([](const FaultProfile& profile) {
    return Choices{
        {{profile.read_error, Fault::kError}, {profile.short_read, Fault::kShort}, {profile.read_flip, Fault::kFlip}}};
  });
  if (fate.fault == Fault::kError) {
    errno = EIO;
    return -1;
  }
  if (fate.fault == Fault::kShort) {
    const std::uint64_t length = short_length(fd, length_of(parts, part_count), fate.random);
    const std::vector<iovec> cut = first_bytes(parts, part_count, length);
    return FileIo::preadv(fd, cut.data(), static_cast<int>(cut.size()), offset);
  }
  const ssize_t moved = FileIo::preadv(fd, parts, part_count, offset);
  if (fate.fault == Fault::kFlip && moved > 0) {
    flip_bit(parts, part_count, static_cast<std::uint64_t>(moved), fate.random);
  }
  return moved;
}

ssize_t FaultyIo::pwritev(int fd, const iovec* parts, int part_count, std::uint64_t offset) noexcept {
  const Fate fate = enter([](const FaultProfile& profile) {
    return Choices{{{profile.write_error, Fault::kError},
                    {profile.write_no_space, Fault::kNoSpace},
                    {profile.short_write, Fault::kShort},
                    {profile.write_flip, Fault::kFlip},
                    {profile.lost_write, Fault::kLost},
                    {profile.misdirected_write, Fault::kMisdirected}}};
  });
  const std::uint64_t length = length_of(parts, part_count);
  switch (fate.fault) {
    case Fault::kNone:
      break;
    case Fault::kError:
      errno = EIO;
      return -1;
    case Fault::kNoSpace:
      errno = ENOSPC;
      return -1;
    case Fault::kShort: {
      const std::vector<iovec> cut = first_bytes(parts, part_count, short_length(fd, length, fate.random));
      return FileIo::pwritev(fd, cut.data(), static_cast<int>(cut.size()), offset);
    }
    case Fault::kFlip: {
      const PageBuffer copy = gather(parts, part_count, length);
      const iovec part{copy.get(), static_cast<std::size_t>(length)};
      flip_bit(&part, 1, length, fate.random);
      return FileIo::pwritev(fd, &part, 1, offset);
    }
    case Fault::kLost:
      return static_cast<ssize_t>(length);
    case Fault::kMisdirected:
      return FileIo::pwritev(fd, parts, part_count, offset + kMisdirection);
  }
  return FileIo::pwritev(fd, parts, part_count, offset);
}

int FaultyIo::allocate(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  const Fate fate = enter([](const FaultProfile& profile) {
    return Choices{{{profile.write_error, Fault::kError}, {profile.write_no_space, Fault::kNoSpace}}};
  });
  if (fate.fault == Fault::kError) return EIO;
  if (fate.fault == Fault::kNoSpace) return ENOSPC;
  return FileIo::allocate(fd, offset, length);
}

int FaultyIo::sync(int fd) noexcept {
  const Fate fate = enter([](const FaultProfile& profile) { return Choices{{{profile.write_error, Fault::kError}}}; });
  return fate.fault == Fault::kError ? EIO : FileIo::sync(fd);
}

}  // namespace kvtier
