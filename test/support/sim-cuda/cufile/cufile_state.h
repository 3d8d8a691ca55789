// What the simulated cuFile knows: registered files and buffers, settings, counts and planned failures.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "platform/cufile/cufile_types.h"
#include "support/sim-cuda/fd.h"

namespace kvtier::sim::cufile {

using kvtier::cufile::BoolParameter;
using kvtier::cufile::Description;
using kvtier::cufile::Error;
using kvtier::cufile::Handle;
using kvtier::cufile::HandleType;
using kvtier::cufile::Outcome;
using kvtier::cufile::Properties;

[[nodiscard]] constexpr int number_of(Error error) noexcept {
  return static_cast<int>(error);
}
// What a call answers; a test names numbers, which may be none of cuFile's.
[[nodiscard]] constexpr Outcome outcome_of(int code) noexcept {
  return {.error = static_cast<Error>(code), .cuda_error = {}};
}
[[nodiscard]] constexpr Outcome outcome_of(Error error) noexcept {
  return outcome_of(number_of(error));
}

struct File {
  int fd = -1;
  std::uint64_t file_number = 0;  // inode
  bool is_direct = false;
  Fd buffered;  // the same file without O_DIRECT, for what is not aligned
  unsigned transfers = 0;
};

struct Buffer {
  std::size_t bytes = 0;
  std::byte* alias = nullptr;
  unsigned transfers = 0;
};

struct Failure {
  std::string function;  // empty: any
  std::uint64_t nth = 1;
  std::uint64_t times = 1;  // 0: without end
  int code = 0;
  std::uint64_t seen = 0;
};

struct Shortening {
  std::uint64_t nth = 1;
  std::size_t bytes = 0;
  std::uint64_t seen = 0;
};

// One a process, never destroyed.
struct State {
  void reset(const char* settings);
  void apply(std::string_view settings);

  // Counts a call; the code that it has to fail with, or 0.
  [[nodiscard]] int enter(std::string_view function);
  // Whether cuFile may move bytes through host memory by itself.
  [[nodiscard]] bool allows_compat() const;
  // How many bytes the transfer that starts may move.
  [[nodiscard]] std::size_t limit(std::size_t bytes);

  std::mutex mutex;  // guards all below; not held while bytes move
  int version = 1150;
  bool has_driver = true;
  bool compat = false;  // the configuration allows the compatibility mode, unless a parameter says otherwise
  bool forced = false;  // the configuration forces it, whatever the parameters say
  long opens = 0;
  std::map<std::uintptr_t, File> files;  // by handle
  std::uintptr_t files_given = 0;
  std::map<std::uintptr_t, Buffer> buffers;  // by device address
  std::map<int, std::size_t> numbers;        // parameters that were set
  std::map<int, bool> switches;
  std::map<int, std::string> texts;
  std::map<std::string, std::uint64_t, std::less<>> calls;
  std::map<std::string, std::uint64_t, std::less<>> counts;
  std::vector<Failure> failures;
  std::vector<Shortening> shortenings;
};

[[nodiscard]] State& state();

}  // namespace kvtier::sim::cufile
