// Decides which work an engine thread does next. No threads and no clock: the engine calls it under its mutex.
//
// - Tasks first, in the order in which they were started; one at a time for each client and lane, and for each storage
//   on disk. Long tasks leave a thread to the others.
// - Onboarding before offloading; within a class, in the order of submission.
// - What touches a disk leaves a thread to what does not, and what touches one disk leaves another to the other disks:
//   a disk that hangs keeps its own threads and no more.
// - A client's bytes in flight are bounded for each disk and direction, and for its copies of each direction; a single
//   larger operation may run alone.
// - While reads of a disk wait or run, at most one write to it is in flight.
// - An operation that a GPU takes part in gives its thread back while it waits, and goes on before new ones begin.
// - Copies and checks of memory, which keep a processor busy, leave one to the event loop. Those of a GPU, which may
//   hang, leave a thread to everything else.
//
// Nothing here depends on how many batches wait: a batch comes and goes in a constant time.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "transfer/batch.h"

namespace kvtier {

// One that no disk gets, and one that a single disk does not get.
inline constexpr unsigned kReservedThreads = 2;

class Schedule {
 public:
  // `thread_count` is more than kReservedThreads; `copy_limit`, the most memory operations at a time, at least 1.
  Schedule(unsigned thread_count, unsigned copy_limit) noexcept;

  // The batch has operations, and is owned by its client's `batches` while it waits.
  void add(Batch& batch);
  void add(std::unique_ptr<Task> task);
  // The batch's operations that have not started leave the schedule.
  [[nodiscard]] std::span<const PlannedOp> drop_rest(Batch& batch) noexcept;
  // The client's batches that still have operations to start.
  [[nodiscard]] std::vector<std::shared_ptr<Batch>> waiting_of(const ClientState& client) const;
  // All of the client's work that has not started leaves the schedule. The tasks are handed over.
  [[nodiscard]] std::list<std::unique_ptr<Task>> drop(ClientState& client);

  // The next work that may start now, counted as running; nothing when there is none.
  [[nodiscard]] Work take();
  // Whether take() would give work.
  [[nodiscard]] bool can_start() const noexcept;
  // The work that take() gave has ended.
  void finish(Work& work) noexcept;
  // The operation that take() gave waits for a GPU: it keeps its bytes, and its thread does something else.
  void pause(Work& work) noexcept;
  // What it waited for has come: take() gives it again when a thread may go on with it.
  void resume(Work&& work);

 private:
  [[nodiscard]] TaskLine& line_of(const Task& task);
  [[nodiscard]] OpLine& line_of(const Batch& batch);
  [[nodiscard]] TaskLine* next_task_line() const noexcept;
  [[nodiscard]] Batch* next_batch() const noexcept;
  [[nodiscard]] bool may_start(const TaskLine& line) const noexcept;
  [[nodiscard]] bool may_start(const OpLine& line, const PlannedOp& op) const noexcept;
  [[nodiscard]] bool has_thread(const DiskLoad& disk) const noexcept;
  // Of the CPU, or of a GPU.
  [[nodiscard]] bool may_copy(const void* device) const noexcept;
  [[nodiscard]] Work start(TaskLine& line) noexcept;
  [[nodiscard]] Work start(Batch& batch) noexcept;
  // Of the operations that go on, the one that may now, those towards the GPU first.
  [[nodiscard]] std::list<Work>::const_iterator next_resumed() const noexcept;
  [[nodiscard]] Work start_again(std::list<Work>::const_iterator place) noexcept;
  [[nodiscard]] Busy busy_with(const Work& work) const noexcept;
  [[nodiscard]] bool may_be(Busy busy, const Work& work) const noexcept;
  void begin_busy(Work& work, Busy busy) noexcept;
  void end_busy(Work& work) noexcept;

  const std::uint32_t long_limit_;
  const std::uint32_t disks_limit_;  // threads that may be in all disks' work
  const std::uint32_t disk_limit_;   // in one disk's
  const std::uint32_t copy_limit_;
  const std::uint32_t gpu_limit_;  // of those, where a GPU takes part
  // Lines in which something waits, in no order.
  std::vector<OpLine*> op_lines_;
  std::vector<TaskLine*> task_lines_;
  // Operations that waited for a GPU and go on.
  std::list<Work> resumed_;
  // By StorageInfo::disk. They stay: there are few.
  std::unordered_map<std::uint64_t, DiskLoad> disks_;
  std::uint64_t number_ = 0;  // of the newest batch or task
  std::uint32_t long_running_ = 0;
  std::uint32_t disks_running_ = 0;
  std::uint32_t copies_running_ = 0;
};

}  // namespace kvtier
