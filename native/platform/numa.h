// Which processors are near a PCI device, as Linux tells it in /sys, and keeping a thread on them, so that the memory
// it touches first is near the device too. Any thread. Other systems say nothing.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvtier {

// The numbers in a kernel's list of processors, "0-3,8,10-11" for example, in order; nullopt for what is no such list,
// and for numbers that no machine has. An empty list is one: a node may have memory and no processors.
[[nodiscard]] std::optional<std::vector<unsigned>> parse_cpu_list(std::string_view text);

// The processors of the NUMA node that a PCI device ("0000:65:00.0") is connected to; empty where the system does not
// say, as on machines with one node.
[[nodiscard]] std::vector<unsigned> cpus_near_pci_device(const std::string& address);
// The same with another root in front of /sys, for tests.
[[nodiscard]] std::vector<unsigned> cpus_near_pci_device_below(const std::string& root, const std::string& address);

// Keeps the calling thread on those of the processors that it may use now (somebody may have bound the process to
// some). False, with nothing changed, where there are none or the system has no such call.
[[nodiscard]] bool keep_thread_on(std::span<const unsigned> cpus) noexcept;

}  // namespace kvtier
