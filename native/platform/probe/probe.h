// What this machine offers to kvtier and what it lacks: the facts that `kvtier doctor` prints. Every `reason` is empty
// when the thing is there, and else says what is missing and what to do. Any thread; the first call in a process with
// NVIDIA's driver may take a second, others a few milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "platform/probe/cuda_probe.h"
#include "platform/probe/cufile_probe.h"
#include "platform/probe/directory_probe.h"
#include "platform/probe/io_uring_probe.h"

namespace kvtier {

struct ProbeOptions {
  std::string directory;       // empty: no directory is asked about
  std::string cuda_library;    // the driver's file; empty: libcuda.so.1
  std::string cufile_library;  // cuFile's file; empty: libcufile.so.0
};

struct HugePagesProbe {
  std::string mode;  // of transparent huge pages: "always", "madvise", "never"; "none" where the system has none
  bool ok = false;   // kvtier's memory gets them
  std::string reason;
};

struct NumaProbe {
  std::uint32_t nodes = 1;
  std::string reason;
};

// The fields of ProbeResult in lib/native/binding.ts. The binding adds the variants of checksum and copy, and SHA-256.
struct ProbeReport {
  struct {
    std::string name;
    std::uint32_t count = 0;
  } cpu;
  struct {
    std::uint64_t total_bytes = 0;
    std::optional<std::uint64_t> available_bytes;  // nullopt: unknown
    std::uint64_t memlock_bytes = 0;               // UINT64_MAX: no limit
  } memory;
  HugePagesProbe huge_pages;
  NumaProbe numa;
  CudaProbe cuda;
  CufileProbe cufile;
  IoUringProbe io_uring;
  std::optional<DirectoryProbe> directory;
};

[[nodiscard]] ProbeReport probe_machine(const ProbeOptions& options);

// What the text of /sys/kernel/mm/transparent_hugepage/enabled means, "always [madvise] never" for example.
[[nodiscard]] HugePagesProbe huge_pages_of(const std::optional<std::string>& enabled);
// How many numbers a kernel list such as "0-3,8" names; 0 when it is none.
[[nodiscard]] std::uint32_t count_in_list(std::string_view list) noexcept;

}  // namespace kvtier
