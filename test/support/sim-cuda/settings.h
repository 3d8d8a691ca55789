// What a simulated machine is like, read from text: "devices=1 version=12080 fail=cuMemAlloc:3:2". A plain value; any
// thread may parse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvtier::sim {

// When the source of a batch copy with access order kAny is read.
enum class AnyOrder : std::uint8_t {
  kRandom,  // in the call or in stream order, a draw for each copy
  kEarly,   // in the call
  kLate,    // in stream order
};

// fail=FUNCTION:NTH:CODE[:TIMES]; the function "*" is any, NTH may be a chance as in "2%", TIMES "*" is without end.
struct CallFailure {
  std::string function;  // empty: any
  std::uint64_t nth = 0;
  std::uint64_t times = 1;  // 0: without end
  unsigned percent = 0;     // not 0: a chance a call, and nth and times do not count
  int code = 0;
};

// fail_work=KIND:NTH:CODE, KIND being copy, memset, kernel or *.
struct WorkFailure {
  std::string kind;  // empty: any
  std::uint64_t nth = 0;
  int code = 0;
};

struct Settings {
  int version = 13000;
  std::vector<int> visible = {0, 1};  // which physical device each ordinal is
  std::size_t memory_bytes = std::size_t{256} << 20U;
  std::size_t pinned_bytes = SIZE_MAX;
  int capability_major = 9;
  int capability_minor = 0;
  std::uint64_t seed = 1;
  unsigned lateness_us = 100;
  AnyOrder any_order = AnyOrder::kRandom;
  std::size_t batch_limit = 4096;
  std::size_t max_pitch = 0x7FFFFFFF;  // of rectangles
  bool host_pointers = true;           // registered host memory has the same address on the device
  bool stream_values = true;
  bool peers = true;
  bool reuse = false;  // the addresses of freed device memory are handed out again at once
  bool rdma = true;
  bool hold = false;
  bool abort = false;
  std::vector<CallFailure> call_failures;
  std::vector<WorkFailure> work_failures;
  std::string report;  // a file that every violation is appended to
};

// Applies the settings in the text, separated by spaces or semicolons, to what is there. A setting that is wrong ends
// the process with a message, for a test that runs with other settings than it asked for proves nothing.
void apply_settings(std::string_view text, Settings& settings);

}  // namespace kvtier::sim
