#include "platform/numa.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

#include "platform/text_file.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace kvtier {
namespace {

// More than any kernel is built for; a larger number is nonsense.
constexpr unsigned kMostCpus = 1U << 16;

// The number that opens the text, which is taken off; nullopt when none does.
std::optional<unsigned> take_number(std::string_view& text) noexcept {
  unsigned number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop == text.data()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(stop - text.data()));
  return number;
}

bool take(std::string_view& text, char character) noexcept {
  if (!text.starts_with(character)) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<std::vector<unsigned>> parse_cpu_list(std::string_view text) {
  std::vector<unsigned> cpus;
  if (text.empty()) return cpus;
  do {
    const auto first = take_number(text);
    if (!first) return std::nullopt;
    const auto last = take(text, '-') ? take_number(text) : first;
    if (!last || *last < *first || *last >= kMostCpus) return std::nullopt;
    for (unsigned cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
  } while (take(text, ','));
  if (!text.empty()) return std::nullopt;
  std::ranges::sort(cpus);
  cpus.erase(std::ranges::unique(cpus).begin(), cpus.end());
  return cpus;
}

std::vector<unsigned> cpus_near_pci_device_below(const std::string& root, const std::string& address) {
  if (address.empty()) return {};
  const auto node_text = read_text_file(root + "/sys/bus/pci/devices/" + address + "/numa_node");
  if (!node_text) return {};
  std::string_view rest = *node_text;
  const auto node = take_number(rest);  // "-1" is what a kernel says that does not know
  if (!node || !rest.empty()) return {};
  const auto list = read_text_file(root + "/sys/devices/system/node/node" + std::to_string(*node) + "/cpulist");
  return list ? parse_cpu_list(*list).value_or(std::vector<unsigned>{}) : std::vector<unsigned>{};
}

std::vector<unsigned> cpus_near_pci_device(const std::string& address) {
  return cpus_near_pci_device_below("", address);
}

bool keep_thread_on(std::span<const unsigned> cpus) noexcept {
#if defined(__linux__)
  cpu_set_t* const allowed = CPU_ALLOC(kMostCpus);
  cpu_set_t* const wanted = CPU_ALLOC(kMostCpus);
  const std::size_t bytes = CPU_ALLOC_SIZE(kMostCpus);
  bool kept = false;
  if (allowed != nullptr && wanted != nullptr && ::sched_getaffinity(0, bytes, allowed) == 0) {
    CPU_ZERO_S(bytes, wanted);
    for (const unsigned cpu : cpus) CPU_SET_S(cpu, bytes, wanted);
    CPU_AND_S(bytes, wanted, wanted, allowed);
    kept = CPU_COUNT_S(bytes, wanted) > 0 && ::sched_setaffinity(0, bytes, wanted) == 0;
  }
  CPU_FREE(allowed);
  CPU_FREE(wanted);
  return kept;
#else
  (void)cpus;
  return false;
#endif
}

}  // namespace kvtier
