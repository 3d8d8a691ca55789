// Decides which work an engine thread does next. No threads and no clock: the engine calls it under its mutex.
//
// - Tasks first, one at a time for each client and lane; long tasks leave one thread to the transfers.
// - Onboarding before offloading; within a class, in the order of submission.
// - A client's bytes in flight are bounded for each direction; a single larger operation may run alone.
// - While disk reads wait or run, at most one disk write is in flight.
// - Copies and checks of memory, which keep a processor busy, leave one to the event loop.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/copy_block.h"
#include "transfer/listener.h"
#include "transfer/request.h"

namespace kvtier {

enum class Direction : std::uint8_t { kRead, kWrite };
enum class Lane : std::uint8_t {
  kShort,  // hashing, closing: milliseconds
  kLong,   // opening, probing, measuring: may take seconds
};

struct ClientLimits {
  std::array<std::uint64_t, 2> bytes_in_flight{};  // by Direction
  std::uint32_t queue_blocks = 0;
};

struct Batch;

// One user of the engine. Guarded by the engine's mutex, except `listener`, which never changes.
struct ClientState {
  ClientLimits limits;
  Listener* listener = nullptr;
  std::array<std::uint64_t, 2> bytes_in_flight{};
  std::array<std::uint64_t, 2> blocked_at{};     // the scan in which a direction was found full
  std::array<std::uint32_t, 2> tasks_running{};  // by Lane
  std::uint32_t blocks = 0;                      // submitted, their operation not finished
  std::uint32_t running = 0;                     // operations and tasks on a thread, reports included
  bool closed = false;
  std::unordered_map<std::uint32_t, std::shared_ptr<Batch>> batches;  // by ticket: transfers that have not settled
};

// A transfer in the engine.
struct Batch {
  // Constant after submission.
  std::shared_ptr<ClientState> client;
  TransferRequest request;
  PathTraits traits;
  Direction direction = Direction::kRead;
  Stores stores = Stores::kCached;
  Plan plan;

  // Read by the operations that run, so that they stop early; set under the engine's mutex.
  std::atomic<bool> cancelled{false};

  // Guarded by the engine's mutex.
  std::size_t next_op = 0;
  std::uint32_t running_ops = 0;
  std::uint32_t unknown_blocks = 0;
  std::vector<Outcome> outcomes;
  Code code = Code::kOk;
  std::string message;
  bool done_reported = false;
  bool settled_reported = false;
  bool reporting = false;  // some thread is in the listener for this batch

  [[nodiscard]] bool is_done() const noexcept { return unknown_blocks == 0; }
  [[nodiscard]] bool is_settled() const noexcept { return running_ops == 0 && next_op == plan.ops.size(); }
};

struct TaskOutcome {
  Code code = Code::kOk;
  std::string message;
  std::unique_ptr<Payload> payload;
};

// Work that is no transfer: opening, closing, hashing, measuring.
struct Task {
  std::shared_ptr<ClientState> client;
  Lane lane = Lane::kShort;
  bool reports = true;
  std::uint32_t ticket = 0;
  std::vector<std::shared_ptr<SharedStorage>> uses;
  std::function<TaskOutcome()> body;
};

// One piece for one thread: an operation of a batch, or a task, or nothing.
struct Work {
  std::shared_ptr<Batch> batch;
  PlannedOp op;
  std::unique_ptr<Task> task;

  [[nodiscard]] bool is_nothing() const noexcept { return batch == nullptr && task == nullptr; }
};

class Schedule {
 public:
  // `thread_count` and `copy_limit`, the most memory operations at a time, are at least 1.
  Schedule(unsigned thread_count, unsigned copy_limit) noexcept;

  // A batch of at least one operation.
  void add(std::shared_ptr<Batch> batch);
  void add(std::unique_ptr<Task> task);
  // No further operation of the batch starts; returns the operations that never will.
  std::span<const PlannedOp> drop_rest(Batch& batch);
  // The client's batches that still have operations to start.
  [[nodiscard]] std::vector<std::shared_ptr<Batch>> waiting_of(const ClientState& client) const;
  // The client's tasks that have not started leave the schedule.
  [[nodiscard]] std::vector<std::unique_ptr<Task>> drop_tasks(const ClientState& client);

  // The next work that may start now, counted as running; nothing when there is none.
  [[nodiscard]] Work take();
  // The work that take() gave has ended.
  void finish(const Work& work) noexcept;
  // Whether anything has not started yet, startable or not.
  [[nodiscard]] bool has_waiting() const noexcept;

 private:
  using Batches = std::deque<std::shared_ptr<Batch>>;

  [[nodiscard]] Work take_task();
  [[nodiscard]] Work take_op(Batches& batches);
  [[nodiscard]] bool may_start(const Batch& batch, const PlannedOp& op) noexcept;

  unsigned long_limit_;
  unsigned copy_limit_;
  std::deque<std::unique_ptr<Task>> tasks_;
  std::array<Batches, 2> batches_;  // onboard, offload
  std::uint64_t scan_ = 0;
  std::uint32_t long_running_ = 0;
  std::uint64_t disk_reads_waiting_ = 0;  // operations
  std::uint32_t disk_reads_running_ = 0;
  std::uint32_t disk_writes_running_ = 0;
  std::uint32_t copies_running_ = 0;
};

}  // namespace kvtier
