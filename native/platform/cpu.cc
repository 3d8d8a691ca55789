#include "platform/cpu.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "platform/text_file.h"

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace kvtier {
namespace {

CpuFeatures detect() noexcept {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();
  features.avx2 = __builtin_cpu_supports("avx2") != 0;
#elif defined(__aarch64__)
  features.neon = true;
#endif
  return features;
}

}  // namespace

const CpuFeatures& cpu_features() noexcept {
  static const CpuFeatures features = detect();
  return features;
}

unsigned cpu_count() noexcept {
#if defined(__linux__)
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    return static_cast<unsigned>(std::max(1, CPU_COUNT(&allowed)));
  }
#endif
  // More processors than a cpu_set_t holds, or no affinities at all.
  return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

std::string cpu_name() {
#if defined(__linux__)
  if (const auto text = read_text_file("/proc/cpuinfo"); text) {
    constexpr std::string_view kLabel = "model name";
    if (const std::size_t at = text->find(kLabel); at != std::string::npos) {
      const std::size_t end = std::min(text->find('\n', at), text->size());
      const std::size_t start = text->find_first_not_of(" \t:", at + kLabel.size());
      if (start < end) return text->substr(start, end - start);
    }
  }
#elif defined(__APPLE__)
  char name[256] = "";
  std::size_t length = sizeof name - 1;
  if (::sysctlbyname("machdep.cpu.brand_string", name, &length, nullptr, 0) == 0 && name[0] != '\0') return name;
#endif
  utsname machine{};
  return ::uname(&machine) == 0 ? std::string(machine.machine) : std::string("unknown");
}

}  // namespace kvtier
