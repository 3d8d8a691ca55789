#include "transfer/schedule.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace kvtier {
namespace {

constexpr std::size_t index_of(Direction direction) noexcept {
  return static_cast<std::size_t>(direction);
}
constexpr std::size_t index_of(Lane lane) noexcept {
  return static_cast<std::size_t>(lane);
}

}  // namespace

Schedule::Schedule(unsigned thread_count, unsigned copy_limit) noexcept
    : long_limit_(std::max(1u, thread_count - 1)), copy_limit_(copy_limit) {
  KVTIER_CHECK(thread_count > 0);
  KVTIER_CHECK(copy_limit > 0);
}

void Schedule::add(std::shared_ptr<Batch> batch) {
  KVTIER_CHECK(!batch->plan.ops.empty());
  if (batch->traits.reads_disk) disk_reads_waiting_ += batch->plan.ops.size();
  batches_[batch->request.onboard ? 0 : 1].push_back(std::move(batch));
}

void Schedule::add(std::unique_ptr<Task> task) {
  tasks_.push_back(std::move(task));
}

std::span<const PlannedOp> Schedule::drop_rest(Batch& batch) {
  const std::span<const PlannedOp> rest = std::span<const PlannedOp>(batch.plan.ops).subspan(batch.next_op);
  if (rest.empty()) return rest;
  if (batch.traits.reads_disk) disk_reads_waiting_ -= rest.size();
  batch.next_op = batch.plan.ops.size();
  std::erase_if(batches_[batch.request.onboard ? 0 : 1],
                [&](const std::shared_ptr<Batch>& entry) { return entry.get() == &batch; });
  return rest;
}

std::vector<std::shared_ptr<Batch>> Schedule::waiting_of(const ClientState& client) const {
  std::vector<std::shared_ptr<Batch>> found;
  for (const Batches& batches : batches_) {
    std::copy_if(batches.begin(), batches.end(), std::back_inserter(found),
                 [&](const std::shared_ptr<Batch>& batch) { return batch->client.get() == &client; });
  }
  return found;
}

std::vector<std::unique_ptr<Task>> Schedule::drop_tasks(const ClientState& client) {
  std::vector<std::unique_ptr<Task>> dropped;
  for (std::unique_ptr<Task>& task : tasks_) {
    if (task->client.get() == &client) dropped.push_back(std::move(task));
  }
  std::erase(tasks_, nullptr);
  return dropped;
}

Work Schedule::take() {
  if (Work work = take_task(); !work.is_nothing()) return work;
  ++scan_;
  if (Work work = take_op(batches_[0]); !work.is_nothing()) return work;
  return take_op(batches_[1]);
}

Work Schedule::take_task() {
  for (auto entry = tasks_.begin(); entry != tasks_.end(); ++entry) {
    Task& task = **entry;
    if (task.client->tasks_running[index_of(task.lane)] != 0) continue;
    if (task.lane == Lane::kLong && long_running_ >= long_limit_) continue;
    if (task.lane == Lane::kLong) ++long_running_;
    ++task.client->tasks_running[index_of(task.lane)];
    ++task.client->running;
    Work work;
    work.task = std::move(*entry);
    tasks_.erase(entry);
    return work;
  }
  return {};
}

Work Schedule::take_op(Batches& batches) {
  for (auto entry = batches.begin(); entry != batches.end(); ++entry) {
    Batch& batch = **entry;
    const PlannedOp op = batch.plan.ops[batch.next_op];
    if (!may_start(batch, op)) continue;
    Work work;
    work.batch = *entry;
    work.op = op;
    ++batch.next_op;
    ++batch.running_ops;
    ++batch.client->running;
    batch.client->bytes_in_flight[index_of(batch.direction)] += op.bytes;
    if (batch.traits.reads_disk) {
      --disk_reads_waiting_;
      ++disk_reads_running_;
    }
    if (batch.traits.writes_disk) ++disk_writes_running_;
    if (batch.traits.memory_only()) ++copies_running_;
    if (batch.next_op == batch.plan.ops.size()) batches.erase(entry);
    return work;
  }
  return {};
}

bool Schedule::may_start(const Batch& batch, const PlannedOp& op) noexcept {
  const bool reads = disk_reads_waiting_ + disk_reads_running_ > 0;
  if (batch.traits.writes_disk && reads && disk_writes_running_ > 0) return false;
  if (batch.traits.memory_only() && copies_running_ >= copy_limit_) return false;
  ClientState& client = *batch.client;
  const std::size_t direction = index_of(batch.direction);
  // A batch behind one that has to wait for bytes waits too, or large operations would never get their turn.
  if (client.blocked_at[direction] == scan_) return false;
  const std::uint64_t in_flight = client.bytes_in_flight[direction];
  if (in_flight == 0 || in_flight + op.bytes <= client.limits.bytes_in_flight[direction]) return true;
  client.blocked_at[direction] = scan_;
  return false;
}

void Schedule::finish(const Work& work) noexcept {
  if (work.task) {
    if (work.task->lane == Lane::kLong) --long_running_;
    --work.task->client->tasks_running[index_of(work.task->lane)];
    return;
  }
  const Batch& batch = *work.batch;
  batch.client->bytes_in_flight[index_of(batch.direction)] -= work.op.bytes;
  if (batch.traits.reads_disk) --disk_reads_running_;
  if (batch.traits.writes_disk) --disk_writes_running_;
  if (batch.traits.memory_only()) --copies_running_;
}

bool Schedule::has_waiting() const noexcept {
  return !tasks_.empty() || !batches_[0].empty() || !batches_[1].empty();
}

}  // namespace kvtier
