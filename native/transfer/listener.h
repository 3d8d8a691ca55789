// What the engine tells its user. Calls come from engine threads, or from the thread that submits or cancels; no lock
// of the engine is held, and none comes after EngineClient::shutdown() has returned.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/codes.h"
#include "transfer/outcome.h"

namespace kvtier {

// A task's result, as its user defined it.
struct Payload {
  Payload() = default;
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;
  virtual ~Payload() = default;
};

// A transfer reports done, then settled, or both at once; a task both at once. One with events to record may report
// ready before.
struct Report {
  std::uint32_t ticket = 0;
  bool ready = false;    // every block is verified and on its way, and the events are recorded
  bool done = false;     // outcomes follow
  bool settled = false;  // nothing touches the memory any more
  Code code = Code::kOk;
  std::vector<Outcome> outcomes;
  std::string message;               // of the first failure, may be empty
  std::unique_ptr<Payload> payload;  // a task's result
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual void report(Report&& report) noexcept = 0;
  // The storage is destroyed: what it borrowed may go. Before the report of a close.
  virtual void storage_closed(std::uint64_t storage_id) noexcept = 0;
};

}  // namespace kvtier
