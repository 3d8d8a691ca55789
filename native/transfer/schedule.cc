#include "transfer/schedule.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace kvtier {
namespace {

// Tasks that open something: the disk is not known yet.
constexpr std::uint64_t kUnknownDisk = 0;
constexpr std::uint32_t kAny = ~std::uint32_t{0};

template <typename Line>
void enlist(std::vector<Line*>& lines, Line& line) {
  if (line.place != kNoPlace) return;
  line.place = lines.size();
  lines.push_back(&line);
}

template <typename Line>
void delist(std::vector<Line*>& lines, Line& line) noexcept {
  if (line.place == kNoPlace) return;
  lines[line.place] = lines.back();
  lines[line.place]->place = line.place;
  lines.pop_back();
  line.place = kNoPlace;
}

BatchQueue& queue_of(const Batch& batch) noexcept {
  return batch.request.onboard ? batch.line->onboard : batch.line->offload;
}

bool goes_before(const Batch& a, const Batch& b) noexcept {
  if (a.request.onboard != b.request.onboard) return a.request.onboard;
  return a.number < b.number;
}

// The storage on disk that a task is about.
const SharedStorage* disk_storage_of(const Task& task) noexcept {
  if (task.lane != Lane::kDisk) return nullptr;
  return task.closes ? task.closes.get() : task.uses.empty() ? nullptr : task.uses.front().get();
}

}  // namespace

void BatchQueue::append(Batch& batch) noexcept {
  batch.previous = last;
  (last == nullptr ? first : last->next) = &batch;
  last = &batch;
}

void BatchQueue::remove(Batch& batch) noexcept {
  (batch.previous == nullptr ? first : batch.previous->next) = batch.next;
  (batch.next == nullptr ? last : batch.next->previous) = batch.previous;
  batch.previous = nullptr;
  batch.next = nullptr;
}

Schedule::Schedule(unsigned thread_count, unsigned copy_limit) noexcept
    : long_limit_(thread_count - 1),
      disks_limit_(thread_count - 1),
      disk_limit_(thread_count - kReservedThreads),
      copy_limit_(copy_limit),
      gpu_limit_(std::min(copy_limit, thread_count - 1)) {
  KVTIER_CHECK(thread_count > kReservedThreads);
  KVTIER_CHECK(copy_limit > 0);
}

OpLine& Schedule::line_of(const Batch& batch) {
  ClientState& client = *batch.client;
  DiskLoad* const disk = batch.traits.memory_only() ? nullptr : &disks_[batch.disk];
  // A handful: two for the copies of the CPU and of each GPU, two for each disk and GPU that it is read for.
  for (OpLine& line : client.op_lines) {
    if (line.disk == disk && line.device == batch.device && line.direction == batch.direction) return line;
  }
  OpLine& line = client.op_lines.emplace_back();
  line.client = &client;
  line.disk = disk;
  line.device = batch.device;
  line.direction = batch.direction;
  return line;
}

void Schedule::add(Batch& batch) {
  KVTIER_CHECK(!batch.plan.ops.empty());
  batch.number = ++number_;
  OpLine& line = line_of(batch);
  batch.line = &line;
  line.ops_waiting += batch.plan.ops.size();
  if (batch.traits.reads_disk) line.disk->reads_waiting += batch.plan.ops.size();
  queue_of(batch).append(batch);
  enlist(op_lines_, line);
}

TaskLine& Schedule::line_of(const Task& task) {
  ClientState& client = *task.client;
  const SharedStorage* const storage = disk_storage_of(task);
  TaskLine& line = storage != nullptr ? client.storage_tasks[storage] : client.task_lines[static_cast<int>(task.lane)];
  line.lane = task.lane;
  if (task.lane == Lane::kDisk) {
    line.disk = &disks_[storage != nullptr ? storage->info().disk : kUnknownDisk];
    // Openings know nothing of each other; one that hangs must not stop the others.
    line.at_once = storage != nullptr ? 1 : kAny;
  }
  return line;
}

void Schedule::add(std::unique_ptr<Task> task) {
  task->number = ++number_;
  TaskLine& line = line_of(*task);
  task->line = &line;
  line.waiting.push_back(std::move(task));
  enlist(task_lines_, line);
}

std::span<const PlannedOp> Schedule::drop_rest(Batch& batch) noexcept {
  const std::span<const PlannedOp> rest = std::span<const PlannedOp>(batch.plan.ops).subspan(batch.next_op);
  if (rest.empty()) return rest;
  OpLine& line = *batch.line;
  if (batch.traits.reads_disk) line.disk->reads_waiting -= rest.size();
  line.ops_waiting -= rest.size();
  batch.next_op = batch.plan.ops.size();
  queue_of(batch).remove(batch);
  if (line.first() == nullptr) delist(op_lines_, line);
  return rest;
}

std::vector<std::shared_ptr<Batch>> Schedule::waiting_of(const ClientState& client) const {
  std::vector<std::shared_ptr<Batch>> found;
  for (const OpLine& line : client.op_lines) {
    for (const BatchQueue* queue : {&line.onboard, &line.offload}) {
      for (Batch* batch = queue->first; batch != nullptr; batch = batch->next) {
        found.push_back(batch->shared_from_this());
      }
    }
  }
  return found;
}

std::list<std::unique_ptr<Task>> Schedule::drop(ClientState& client) {
  for (OpLine& line : client.op_lines) {
    if (line.disk != nullptr && line.direction == Direction::kRead) line.disk->reads_waiting -= line.ops_waiting;
    line.ops_waiting = 0;
    line.onboard = {};
    line.offload = {};
    delist(op_lines_, line);
  }
  std::list<std::unique_ptr<Task>> dropped;
  const auto drop_tasks = [&](TaskLine& line) {
    dropped.splice(dropped.end(), line.waiting);
    delist(task_lines_, line);
  };
  for (TaskLine& line : client.task_lines) drop_tasks(line);
  for (auto& [storage, line] : client.storage_tasks) drop_tasks(line);
  return dropped;
}

bool Schedule::has_thread(const DiskLoad& disk) const noexcept {
  return disks_running_ < disks_limit_ && disk.threads < disk_limit_;
}

bool Schedule::may_copy(const void* device) const noexcept {
  return copies_running_ < (device == nullptr ? copy_limit_ : gpu_limit_);
}

bool Schedule::may_start(const TaskLine& line) const noexcept {
  if (line.running >= line.at_once) return false;
  switch (line.lane) {
    case Lane::kShort:
      return true;
    case Lane::kLong:
      return long_running_ < long_limit_;
    case Lane::kDisk:
      return has_thread(*line.disk);
  }
  return false;
}

bool Schedule::may_start(const OpLine& line, const PlannedOp& op) const noexcept {
  if (line.disk == nullptr) {
    if (!may_copy(line.device)) return false;
  } else {
    const DiskLoad& disk = *line.disk;
    if (!has_thread(disk)) return false;
    const bool reads = disk.reads_waiting + disk.reads_running > 0;
    if (line.direction == Direction::kWrite && reads && disk.writes_running > 0) return false;
  }
  // The first of a line waits for its bytes, and all behind it with it, or large operations would never get their turn.
  const std::uint64_t limit = line.client->limits.bytes_in_flight[static_cast<std::size_t>(line.direction)];
  return line.bytes_in_flight == 0 || line.bytes_in_flight + op.bytes <= limit;
}

TaskLine* Schedule::next_task_line() const noexcept {
  TaskLine* best = nullptr;
  for (TaskLine* const line : task_lines_) {
    if (best != nullptr && line->waiting.front()->number > best->waiting.front()->number) continue;
    if (may_start(*line)) best = line;
  }
  return best;
}

Batch* Schedule::next_batch() const noexcept {
  Batch* best = nullptr;
  for (const OpLine* const line : op_lines_) {
    Batch* const first = line->first();
    if (best != nullptr && !goes_before(*first, *best)) continue;
    if (may_start(*line, first->plan.ops[first->next_op])) best = first;
  }
  return best;
}

bool Schedule::can_start() const noexcept {
  return next_task_line() != nullptr || next_resumed() != resumed_.end() || next_batch() != nullptr;
}

Work Schedule::take() {
  if (TaskLine* const line = next_task_line(); line != nullptr) return start(*line);
  if (const auto place = next_resumed(); place != resumed_.end()) return start_again(place);
  if (Batch* const batch = next_batch(); batch != nullptr) return start(*batch);
  return {};
}

Work Schedule::start(TaskLine& line) noexcept {
  Work work;
  work.task = std::move(line.waiting.front());
  line.waiting.pop_front();
  if (line.waiting.empty()) delist(task_lines_, line);
  ++line.running;
  if (line.lane == Lane::kLong) ++long_running_;
  if (line.lane == Lane::kDisk) {
    ++disks_running_;
    ++line.disk->threads;
  }
  return work;
}

Work Schedule::start(Batch& batch) noexcept {
  OpLine& line = *batch.line;
  Work work;
  work.batch = batch.shared_from_this();
  work.op = batch.plan.ops[batch.next_op];
  ++batch.next_op;
  ++batch.running_ops;
  --line.ops_waiting;
  line.bytes_in_flight += work.op.bytes;
  if (batch.traits.reads_disk) --line.disk->reads_waiting;
  begin_busy(work, line.disk == nullptr ? Busy::kCopy : Busy::kDisk);
  if (batch.next_op == batch.plan.ops.size()) {
    queue_of(batch).remove(batch);
    if (line.first() == nullptr) delist(op_lines_, line);
  }
  return work;
}

std::list<Work>::const_iterator Schedule::next_resumed() const noexcept {
  auto best = resumed_.end();
  for (auto each = resumed_.begin(); each != resumed_.end(); ++each) {
    if (best != resumed_.end() && !each->batch->request.onboard) continue;
    if (!may_be(busy_with(*each), *each)) continue;
    best = each;
    if (each->batch->request.onboard) break;
  }
  return best;
}

// What an operation that goes on does next: it goes to its disk, or it works on memory.
Busy Schedule::busy_with(const Work& work) const noexcept {
  const bool uses_disk = work.device->step == DeviceStep::kMove && !work.batch->traits.memory_only();
  return uses_disk ? Busy::kDisk : Busy::kCopy;
}

bool Schedule::may_be(Busy busy, const Work& work) const noexcept {
  switch (busy) {
    case Busy::kNothing:
      return true;
    case Busy::kCopy:
      return may_copy(work.batch->device);
    case Busy::kDisk:
      return has_thread(*work.batch->line->disk);
  }
  return false;
}

Work Schedule::start_again(std::list<Work>::const_iterator place) noexcept {
  std::list<Work> taken;
  taken.splice(taken.begin(), resumed_, place);
  Work work = std::move(taken.front());
  begin_busy(work, busy_with(work));
  return work;
}

void Schedule::begin_busy(Work& work, Busy busy) noexcept {
  KVTIER_CHECK(work.busy == Busy::kNothing);
  work.busy = busy;
  if (busy == Busy::kCopy) ++copies_running_;
  if (busy != Busy::kDisk) return;
  DiskLoad& disk = *work.batch->line->disk;
  ++disks_running_;
  ++disk.threads;
  if (work.batch->traits.reads_disk) ++disk.reads_running;
  if (work.batch->traits.writes_disk) ++disk.writes_running;
}

void Schedule::end_busy(Work& work) noexcept {
  const Busy busy = std::exchange(work.busy, Busy::kNothing);
  if (busy == Busy::kCopy) --copies_running_;
  if (busy != Busy::kDisk) return;
  DiskLoad& disk = *work.batch->line->disk;
  --disks_running_;
  --disk.threads;
  if (work.batch->traits.reads_disk) --disk.reads_running;
  if (work.batch->traits.writes_disk) --disk.writes_running;
}

void Schedule::pause(Work& work) noexcept {
  end_busy(work);
}

void Schedule::resume(Work&& work) {
  resumed_.push_back(std::move(work));
}

void Schedule::finish(Work& work) noexcept {
  if (!work.task) {
    end_busy(work);
    work.batch->line->bytes_in_flight -= work.op.bytes;
    return;
  }
  TaskLine& line = *work.task->line;
  --line.running;
  if (line.lane == Lane::kLong) --long_running_;
  if (line.lane != Lane::kDisk) return;
  --disks_running_;
  --line.disk->threads;
  const SharedStorage* const storage = disk_storage_of(*work.task);
  if (storage != nullptr && line.waiting.empty()) work.task->client->storage_tasks.erase(storage);
}

}  // namespace kvtier
