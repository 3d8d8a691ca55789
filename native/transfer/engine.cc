#include "transfer/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/check.h"
#include "platform/cpu.h"

namespace kvtier {
namespace {

// Never destroyed, so that threads that outlive main() find it.
struct Registry {
  std::mutex mutex;                 // guards all below; taken before an engine's
  std::weak_ptr<Engine> engine;     // the process's, while anybody holds it
  std::shared_ptr<Engine> lasting;  // the same, while work of it was abandoned
};

Registry& registry() {
  static Registry* instance = new Registry();
  return *instance;
}

// Most of them wait for a disk most of the time.
unsigned default_threads() noexcept {
  return std::clamp(2 * cpu_count(), 2u, 8u) + kReservedThreads;
}

// A copy keeps a processor busy, and one is the event loop's.
unsigned copy_limit() noexcept {
  return std::max(1u, cpu_count() - 1);
}

}  // namespace

Result<std::shared_ptr<Engine>> Engine::acquire(unsigned threads) {
  const std::lock_guard guard(registry().mutex);
  if (std::shared_ptr<Engine> engine = registry().engine.lock()) return engine;
  // make_shared would keep the engine's memory as long as the weak pointer.
  std::shared_ptr<Engine> engine(
      new Engine(threads == 0 ? default_threads() : std::clamp(threads, kMinEngineThreads, kMaxEngineThreads)));
  for (Seat& seat : engine->seats_) {
    Result<Thread> thread = Thread::start("kvtier-engine", [raw = engine.get(), &seat] { raw->work(seat); });
    if (!thread.is_ok()) return thread.status();
    seat.thread = std::move(thread).value();
  }
  registry().engine = engine;
  return engine;
}

void Engine::let_go(std::shared_ptr<Engine> engine) noexcept {
  std::shared_ptr<Engine> other;  // let go after the lock, and before `engine`
  const std::lock_guard guard(registry().mutex);
  const Lock lock(engine->mutex_);
  if (engine->abandoned_ > 0) {
    registry().lasting = engine;
  } else {
    other = std::exchange(registry().lasting, nullptr);
  }
}

Engine::Engine(unsigned threads)
    : thread_count_(threads),
      schedule_(threads, copy_limit()),
      seats_(threads),
      watcher_([this](Work&& work) { go_on(std::move(work)); }) {}

Engine::~Engine() {
  {
    const Lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (Seat& seat : seats_) seat.thread.join();
}

void Engine::work(Seat& seat) {
  Hands hands;
  Lock lock(mutex_);
  for (;;) {
    if (seat.next_staging.data() != nullptr) {
      HostBuffer old = std::exchange(hands.staging, std::move(seat.next_staging));
      lock.unlock();
      old = HostBuffer();
      lock.lock();
      continue;
    }
    Work work = schedule_.take();
    if (work.is_nothing()) {
      if (stopping_) return;
      ++idle_;
      wake_.wait(lock);
      --idle_;
      waking_ = false;
      continue;
    }
    const std::shared_ptr<ClientState> client = work.task ? work.task->client : work.batch->client;
    const bool detachable = work.task ? work.task->lane == Lane::kDisk : work.batch->detachable;
    const bool is_first_step = !work.device;
    if (is_first_step) enter(*client, detachable);
    unlock(lock);
    if (work.task) {
      run_task(lock, work);
    } else if (!work.batch->request.on_device()) {
      run_op(lock, work, hands);
    } else if (!run_device_op(lock, work, hands)) {
      lock.lock();
      continue;
    }
    // What the work was the last to hold goes without the lock, and before shutdown() stops waiting for it.
    lock.unlock();
    work = Work();
    lock.lock();
    leave(*client, detachable);
  }
}

// Work becomes startable under the lock only, and whoever makes it so comes here, or is an engine thread, which looks
// at the schedule before it sleeps. No wake-up is lost: when there is something to start and no thread is woken here,
// then either none sleeps, and each looks at the schedule under the lock before it does; or `waking_` is set, and then
// a thread has still to take the lock after its sleep. It clears `waking_` and looks at the schedule before it gives
// the lock up, whatever woke it, and comes here again when it found work: as many threads wake as there is work for,
// one after the other. The notification itself follows the lock, or the woken thread would run into it; one that
// arrives when all threads that slept are up already is one that nobody needs.
bool Engine::must_wake() noexcept {
  if (idle_ == 0 || waking_ || !schedule_.can_start()) return false;
  waking_ = true;
  return true;
}

void Engine::unlock(Lock& lock) {
  const bool wake = must_wake();
  lock.unlock();
  if (wake) wake_.notify_one();
}

void Engine::run_op(Lock& lock, Work& work, Hands& hands) {
  const OpResult result = hands.runner.run(*work.batch, work.op, {hands.staging.data(), hands.staging.size()});
  lock.lock();
  end_op(lock, work, result);
}

bool Engine::run_device_op(Lock& lock, Work& work, Hands& hands) {
  if (!work.device) work.device = std::make_unique<DeviceOp>(work.op.count);
  DeviceOp& state = *work.device;
  const bool has_ended =
      hands.device_runner.run(*work.batch, work.op, hands.runner, {hands.staging.data(), hands.staging.size()}, state);
  lock.lock();
  if (std::exchange(state.queued_all, false)) count_queued(lock, work);
  if (has_ended) {
    end_op(lock, work, {state.outcomes, state.checksums, state.message});
    return true;
  }
  schedule_.pause(work);
  unlock(lock);
  watcher_.watch(std::move(work));
  return false;
}

void Engine::go_on(Work&& work) {
  Lock lock(mutex_);
  if (work.device->step != DeviceStep::kEnd) {
    schedule_.resume(std::move(work));
    unlock(lock);
    return;
  }
  const std::shared_ptr<ClientState> client = work.batch->client;
  const bool detachable = work.batch->detachable;
  const DeviceOp& state = *work.device;
  end_op(lock, work, {state.outcomes, state.checksums, state.message});
  // As in work().
  lock.unlock();
  work = Work();
  lock.lock();
  leave(*client, detachable);
  unlock(lock);
}

void Engine::end_op(Lock& lock, Work& work, const OpResult& result) {
  schedule_.finish(work);
  commit(work, result);
  report_batch(lock, work.batch);
}

// Whoever queues the last of a transfer's copies records what was not recorded yet of its events.
void Engine::count_queued(Lock& lock, const Work& work) {
  Batch& batch = *work.batch;
  if (!batch.request.ready || ++batch.queued_ops != batch.plan.ops.size()) return;
  lock.unlock();
  const Status status = batch.request.ready->record_rest();
  lock.lock();
  batch.ready = status.is_ok();
  report_batch(lock, work.batch);
}

void Engine::run_task(Lock& lock, Work& work) {
  Task& task = *work.task;
  TaskOutcome outcome;
  if (task.closes) {
    task.closes->destroy();
  } else {
    outcome = task.body();
    task.body = nullptr;
  }
  lock.lock();
  schedule_.finish(work);
  if (!task.closes) --task.client->tasks;
  for (const std::shared_ptr<SharedStorage>& storage : task.uses) end_use(task.client, storage);
  report_task(lock, task, outcome);
  lock.unlock();
  outcome = TaskOutcome();
  lock.lock();
}

void Engine::report_task(Lock& lock, const Task& task, TaskOutcome& outcome) {
  if (task.client->closed) return;
  Report report;
  report.ticket = task.ticket;
  report.done = true;
  report.settled = true;
  report.code = outcome.code;
  report.message = std::move(outcome.message);
  report.payload = std::move(outcome.payload);
  Listener& listener = *task.client->listener;
  enter_listener(lock, *task.client);
  if (task.closes) listener.storage_closed(task.closes->id());
  if (task.reports) listener.report(std::move(report));
  leave_listener(lock, *task.client);
}

void Engine::commit(const Work& work, const OpResult& result) {
  Batch& batch = *work.batch;
  --batch.running_ops;
  batch.client->blocks -= work.op.count;
  if (batch.cancelled.load(std::memory_order_relaxed) || batch.client->closed) return;
  batch.unknown_blocks -= work.op.count;
  const TransferRequest& request = batch.request;
  for (std::uint32_t i = 0; i < work.op.count; ++i) {
    const std::uint32_t index = batch.plan.order[work.op.first + i];
    const Outcome outcome = result.outcomes[i];
    batch.outcomes[index] = outcome;
    if (code_of(outcome) != Code::kOk) continue;
    const Move& move = request.moves[index];
    if (batch.traits.makes_checksum && request.target->info().keeps_checksums) {
      request.target->storage().set_checksum(move.target, result.checksums[i]);
    }
    if (request.via && move.via != kNoSlot && request.via->info().keeps_checksums) {
      request.via->storage().set_checksum(move.via, result.checksums[i]);
    }
  }
  if (batch.message.empty()) batch.message = result.message;
}

void Engine::end_early(Batch& batch, Code code, bool running_too) {
  if (batch.is_done()) return;
  batch.code = code;
  for (const PlannedOp& op : schedule_.drop_rest(batch)) {
    batch.client->blocks -= op.count;
    batch.unknown_blocks -= op.count;
    for (std::uint32_t i = 0; i < op.count; ++i) batch.outcomes[batch.plan.order[op.first + i]] = miss(code);
  }
  if (!running_too || batch.is_done()) return;
  batch.cancelled.store(true, std::memory_order_relaxed);
  batch.unknown_blocks = 0;
  for (Outcome& outcome : batch.outcomes) {
    if (outcome == kUnknownOutcome) outcome = miss(code);
  }
}

void Engine::report_batch(Lock& lock, const std::shared_ptr<Batch>& batch) {
  // A second thread that finds something to report leaves it to the first, which looks again: done comes before
  // settled.
  while (!batch->reporting && !batch->client->closed) {
    Report report;
    report.done = batch->is_done() && !batch->done_reported;
    report.settled = batch->is_done() && batch->is_settled() && !batch->settled_reported;
    report.ready = batch->ready && !batch->ready_reported && !batch->cancelled.load(std::memory_order_relaxed);
    if (!report.done && !report.settled && !report.ready) return;
    batch->ready_reported = batch->ready_reported || report.ready;
    report.ticket = batch->request.ticket;
    report.code = batch->code;
    if (report.done) {
      report.outcomes = std::move(batch->outcomes);
      report.message = std::move(batch->message);
      batch->done_reported = true;
    }
    const bool settled = report.settled;
    if (settled) {
      batch->settled_reported = true;
      batch->client->batches.erase(batch->request.ticket);
    }
    batch->reporting = true;
    enter_listener(lock, *batch->client);
    batch->client->listener->report(std::move(report));
    leave_listener(lock, *batch->client);
    batch->reporting = false;
    if (settled) end_uses(*batch);
  }
}

void Engine::end_uses(const Batch& batch) {
  const TransferRequest& request = batch.request;
  for (const std::shared_ptr<SharedStorage>* storage : {&request.source, &request.via, &request.target}) {
    if (*storage) end_use(batch.client, *storage);
  }
}

void Engine::begin_use(SharedStorage& storage) noexcept {
  ++storage.use.users;
}

void Engine::end_use(const std::shared_ptr<ClientState>& client, const std::shared_ptr<SharedStorage>& storage) {
  KVTIER_CHECK(storage->use.users > 0);
  --storage->use.users;
  destroy_when_unused(client, storage);
}

void Engine::destroy_when_unused(const std::shared_ptr<ClientState>& client,
                                 const std::shared_ptr<SharedStorage>& storage) {
  if (!storage->use.closing || storage->use.users != 0 || client->closed) return;
  auto task = std::make_unique<Task>();
  task->client = client;
  task->lane = storage->info().persistent ? Lane::kDisk : Lane::kShort;
  task->reports = storage->use.reports_close;
  task->ticket = storage->use.close_ticket;
  task->closes = storage;
  schedule_.add(std::move(task));
}

void Engine::enter_listener(Lock& lock, ClientState& client) noexcept {
  ++client.reporting;
  lock.unlock();
}

void Engine::leave_listener(Lock& lock, ClientState& client) noexcept {
  lock.lock();
  --client.reporting;
  if (client.closed) drained_.notify_all();
}

void Engine::enter(ClientState& client, bool detachable) noexcept {
  ++client.running;
  if (detachable) ++client.detachable;
}

void Engine::leave(ClientState& client, bool detachable) noexcept {
  --client.running;
  if (detachable) --client.detachable;
  if (client.abandoned) --abandoned_;
  if (client.closed) drained_.notify_all();
}

Status Engine::ensure_staging(std::uint64_t size_bytes) {
  const std::lock_guard guard(staging_mutex_);
  {
    const Lock lock(mutex_);
    if (staging_bytes_ >= size_bytes) return Status::ok();
  }
  std::vector<HostBuffer> buffers;
  for (unsigned i = 0; i < thread_count_; ++i) {
    Result<HostBuffer> buffer = HostBuffer::allocate(size_bytes);
    if (!buffer.is_ok()) return buffer.status();
    buffers.push_back(std::move(buffer).value());
  }
  {
    const Lock lock(mutex_);
    for (unsigned i = 0; i < thread_count_; ++i) std::swap(seats_[i].next_staging, buffers[i]);
    staging_bytes_ = size_bytes;
  }
  // What no thread had taken yet goes with `buffers`, outside the lock.
  return Status::ok();
}

}  // namespace kvtier
