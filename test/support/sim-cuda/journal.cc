#include "support/sim-cuda/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "support/sim-cuda/fd.h"

namespace kvtier::sim {

void Journal::configure(const std::string& report, bool abort) {
  report_ = report;
  abort_ = abort;
}

void Journal::violation(std::string text) {
  note("violation: " + text);
  if (abort_) {
    std::fprintf(stderr, "kvtier sim-cuda: violation: %s\n", text.c_str());
    std::abort();
  }
  violations_.push_back(std::move(text));
}

void Journal::note(const std::string& text) const {
  if (report_.empty()) return;
  const Fd file(::open(report_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
  const std::string line = std::to_string(::getpid()) + ' ' + text + '\n';
  // One write, so that lines of several processes do not mix.
  if (!file.is_open() || ::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    std::fprintf(stderr, "kvtier sim-cuda: cannot append to %s: %s", report_.c_str(), line.c_str());
  }
}

}  // namespace kvtier::sim
