#include "platform/probe/probe.h"

#include <algorithm>
#include <charconv>

#include "platform/cpu.h"
#include "platform/system_memory.h"
#include "platform/text_file.h"

namespace kvtier {
namespace {

constexpr const char* kHugePagesFile = "/sys/kernel/mm/transparent_hugepage/enabled";

// A number at the start of `text`, which is shortened by it.
std::optional<std::uint32_t> take_number(std::string_view& text) noexcept {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

NumaProbe probe_numa() {
  const auto online = read_text_file("/sys/devices/system/node/online");
  const std::uint32_t nodes = online ? count_in_list(*online) : 0;
  if (nodes > 0) return {nodes, {}};
  return {1, "the system does not name its NUMA nodes: one is assumed, and memory is not placed"};
}

}  // namespace

HugePagesProbe huge_pages_of(const std::optional<std::string>& enabled) {
  HugePagesProbe probe;
  const std::size_t open = enabled ? enabled->find('[') : std::string::npos;
  const std::size_t close = enabled ? enabled->find(']') : std::string::npos;
  if (open == std::string::npos || close == std::string::npos || close < open) {
    probe.mode = "none";
    probe.reason = "the system has no transparent huge pages: reads from disk and pinning are slower";
    return probe;
  }
  probe.mode = enabled->substr(open + 1, close - open - 1);
  probe.ok = probe.mode == "always" || probe.mode == "madvise";
  if (!probe.ok) {
    probe.reason =
        std::string("transparent huge pages are off, which makes reads from disk about half as fast: write ") +
        "\"madvise\" to " + kHugePagesFile;
  }
  return probe;
}

std::uint32_t count_in_list(std::string_view list) noexcept {
  std::uint32_t count = 0;
  while (!list.empty()) {
    const auto first = take_number(list);
    if (!first) return 0;
    auto last = first;
    if (list.starts_with('-')) {
      list.remove_prefix(1);
      last = take_number(list);
      if (!last || *last < *first) return 0;
    }
    count += *last - *first + 1;
    if (list.empty()) break;
    if (!list.starts_with(',')) return 0;
    list.remove_prefix(1);
  }
  return count;
}

ProbeReport probe_machine(const ProbeOptions& options) {
  ProbeReport report;
  report.cpu.name = cpu_name();
  report.cpu.count = cpu_count();
  const SystemMemory memory = system_memory();
  report.memory.total_bytes = memory.total_bytes;
  report.memory.available_bytes = memory.available_bytes;
  report.memory.memlock_bytes = memlock_limit_bytes();
  report.huge_pages = huge_pages_of(read_text_file(kHugePagesFile));
  report.numa = probe_numa();
  report.cuda = probe_cuda(options.cuda_library);
  report.cufile = probe_cufile(options.cuda_library, options.cufile_library, options.directory);
  report.io_uring = probe_io_uring();
  if (!options.directory.empty()) report.directory = probe_directory(options.directory);
  return report;
}

}  // namespace kvtier
