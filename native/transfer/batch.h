// What the engine works on: batches, tasks, the clients that they belong to, and the lines in which they wait. Plain
// data; guarded by the engine's mutex where nothing else is said.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/copy_block.h"
#include "transfer/device/device_op.h"
#include "transfer/listener.h"
#include "transfer/request.h"

namespace kvtier {

enum class Direction : std::uint8_t { kRead, kWrite };

enum class Lane : std::uint8_t {
  kShort,  // touches no disk, takes milliseconds: hashing, closing memory
  kLong,   // touches no disk, may take seconds: opening memory, measuring
  kDisk,   // touches a disk, which may never answer: opening, erasing, syncing, closing
};

struct ClientLimits {
  std::array<std::uint64_t, 2> bytes_in_flight{};  // by Direction; for each disk, and for the copies
  std::uint32_t queue_blocks = 0;
  std::uint32_t queue_tasks = 0;
};

struct Batch;
struct Task;
struct ClientState;

// What goes on at one disk (StorageInfo::disk).
struct DiskLoad {
  std::uint32_t threads = 0;        // in an operation or a task of it
  std::uint64_t reads_waiting = 0;  // operations
  std::uint32_t reads_running = 0;
  std::uint32_t writes_running = 0;
};

// Batches in the order of submission, linked through themselves, so that each can leave at once.
struct BatchQueue {
  Batch* first = nullptr;
  Batch* last = nullptr;

  [[nodiscard]] bool is_empty() const noexcept { return first == nullptr; }
  void append(Batch& batch) noexcept;
  void remove(Batch& batch) noexcept;
};

// `place` of a line in which nothing waits.
inline constexpr std::size_t kNoPlace = ~std::size_t{0};

// A client's operations that share a budget of bytes: those of one disk and direction, or the copies of one direction
// that one GPU makes, or the CPU.
struct OpLine {
  ClientState* client = nullptr;
  DiskLoad* disk = nullptr;      // null: copies
  const void* device = nullptr;  // a GPU's; null: the CPU's
  Direction direction = Direction::kRead;
  std::uint64_t bytes_in_flight = 0;
  std::uint64_t ops_waiting = 0;
  BatchQueue onboard;
  BatchQueue offload;
  std::size_t place = kNoPlace;  // in the schedule's list

  [[nodiscard]] Batch* first() const noexcept { return onboard.is_empty() ? offload.first : onboard.first; }
};

// Tasks that wait for each other: a client's of one lane, or those of one storage on disk.
struct TaskLine {
  Lane lane = Lane::kShort;
  DiskLoad* disk = nullptr;  // kDisk only
  std::uint32_t at_once = 1;
  std::uint32_t running = 0;
  std::list<std::unique_ptr<Task>> waiting;
  std::size_t place = kNoPlace;  // in the schedule's list
};

// One user of the engine. `listener` never changes.
struct ClientState {
  ClientLimits limits;
  Listener* listener = nullptr;  // not to be used once `closed`
  // Also read by operations that run, so that they stop early.
  std::atomic<bool> closed{false};
  bool abandoned = false;        // shutdown() went without waiting for `running` to become 0
  std::uint32_t blocks = 0;      // submitted, their operation not finished
  std::uint32_t tasks = 0;       // started by the user and not finished
  std::uint32_t running = 0;     // operations and tasks on a thread, reports included
  std::uint32_t detachable = 0;  // of those, the ones that shutdown() need not wait for
  std::uint32_t reporting = 0;   // threads in the listener
  std::unordered_map<std::uint32_t, std::shared_ptr<Batch>> batches;  // by ticket: transfers that have not settled

  // The schedule's. What waits in them is owned by `batches`, or by the line.
  std::deque<OpLine> op_lines;
  std::array<TaskLine, 3> task_lines;                                // by Lane; kDisk: of no storage
  std::unordered_map<const SharedStorage*, TaskLine> storage_tasks;  // kDisk; as long as there are any
};

// A transfer in the engine.
struct Batch : std::enable_shared_from_this<Batch> {
  // Constant after submission.
  std::shared_ptr<ClientState> client;
  TransferRequest request;
  PathTraits traits;
  std::uint64_t disk = 0;        // the one it reads or writes
  const void* device = nullptr;  // the first GPU that copies its blocks
  Direction direction = Direction::kRead;
  bool detachable = false;  // it may end after its environment: it waits for a disk or GPU, and touches no lent memory
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
  // Towards a GPU, with events to record: operations whose copies are all queued; whether all are and the events, too.
  std::size_t queued_ops = 0;
  bool ready = false;
  bool ready_reported = false;

  // The schedule's.
  std::uint64_t number = 0;  // of the submission
  OpLine* line = nullptr;
  Batch* previous = nullptr;
  Batch* next = nullptr;

  [[nodiscard]] bool is_done() const noexcept { return unknown_blocks == 0; }
  // Nobody asks for what is not done yet. Any thread.
  [[nodiscard]] bool is_given_up() const noexcept {
    return cancelled.load(std::memory_order_relaxed) || client->closed.load(std::memory_order_relaxed);
  }
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
  std::shared_ptr<SharedStorage> closes;  // instead of a body: the storage to destroy

  // The schedule's.
  std::uint64_t number = 0;
  TaskLine* line = nullptr;
};

// What a piece of work keeps busy.
enum class Busy : std::uint8_t { kNothing, kCopy, kDisk };

// One piece for one thread: an operation of a batch, or a task, or nothing.
struct Work {
  std::shared_ptr<Batch> batch;
  PlannedOp op;
  std::unique_ptr<DeviceOp> device;  // of an operation that a GPU takes part in, once it has begun
  std::unique_ptr<Task> task;
  Busy busy = Busy::kNothing;  // the schedule's; of an operation

  [[nodiscard]] bool is_nothing() const noexcept { return batch == nullptr && task == nullptr; }
};

}  // namespace kvtier
