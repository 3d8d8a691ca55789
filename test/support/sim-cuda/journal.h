// What the simulator saw: violations (what no correct program does, though a real driver may let it pass) and counts.
// Guarded by the simulator's one mutex.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvtier::sim {

class Journal {
 public:
  // Where violations are appended as they happen, so that they outlive a kill; empty: nowhere. With `abort` the first
  // one ends the process, with its stack still there to be seen.
  void configure(const std::string& report, bool abort);

  void violation(std::string text);
  // A line of the report that is no violation.
  void note(const std::string& text) const;

  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
  void clear_violations() { violations_.clear(); }

  std::uint64_t pageable_copies = 0;
  std::uint64_t batch_descriptors = 0;
  std::uint64_t finished_work = 0;

 private:
  std::string report_;
  bool abort_ = false;
  std::vector<std::string> violations_;
};

}  // namespace kvtier::sim
