// An operation whose copies a GPU does: what it waits for, and what became of its blocks so far. It goes from an engine
// thread, which queues copies, to the watcher, which sees them come, and back. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "digest/payload_checksum.h"
#include "transfer/device/device_link.h"
#include "transfer/device/fence.h"
#include "transfer/outcome.h"

namespace kvtier {

// What an engine thread does next with it.
enum class DeviceStep : std::uint8_t {
  kBegin,  // nothing was queued
  kMove,   // what it waits for before it can begin has come
  kCheck,  // the copies have run: checksums are to be made
  kEnd,    // nothing: the copies have run
};

struct DeviceOp {
  explicit DeviceOp(std::uint32_t count) : outcomes(count, miss(Code::kAborted)), checksums(count) {}
  // Nothing of it is queued any more, or the GPU is lost.
  ~DeviceOp();
  DeviceOp(const DeviceOp&) = delete;
  DeviceOp& operator=(const DeviceOp&) = delete;

  // Whether all that it waits for has come, or failed. The calling thread is one of kvtier's own.
  [[nodiscard]] bool poll();
  // Its blocks are not asked for any more: fences are not waited for, for nothing is queued behind them.
  void give_up() noexcept { fences.clear(); }
  // Waits for it on the calling thread.
  void wait();
  // Blocks that were to arrive do not.
  void fail(const Status& status);

  // Where copies of this operation end in a stream.
  struct Mark {
    std::shared_ptr<DeviceLink> link;
    cuda::Stream stream = nullptr;
    std::optional<CudaEvent> event;  // none where it could not be recorded: then all that the stream has is waited for
    std::optional<std::chrono::steady_clock::time_point> failing_since;  // every question since then failed
  };

  [[nodiscard]] bool has_come(Mark& mark);

  DeviceStep step = DeviceStep::kBegin;
  bool queued_all = false;                           // every block is verified and its copies are queued
  std::vector<std::shared_ptr<const Fence>> fences;  // waited for before anything is queued
  std::vector<Mark> marks;
  std::vector<Outcome> outcomes;  // in the plan's order, as OpResult
  std::vector<Checksum> checksums;
  std::string message;
  HostStaging::Hold staging;  // where the copies that are queued come from, if they come from no slot
};

}  // namespace kvtier
