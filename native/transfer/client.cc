// EngineClient: one environment's share of the engine.
#include <algorithm>
#include <list>
#include <string>
#include <utility>

#include "core/check.h"
#include "transfer/engine.h"

namespace kvtier {
namespace {

Status closed() {
  return Status(Code::kClosed, "the engine was closed");
}

Status closed_storage(const SharedStorage& storage) {
  return Status(Code::kClosed, std::string("the storage of kind ") + storage.info().kind + " was closed");
}

Direction direction_of(const TransferRequest& request, const PathTraits& traits) noexcept {
  if (traits.reads_disk) return Direction::kRead;
  if (traits.writes_disk) return Direction::kWrite;
  return request.onboard ? Direction::kRead : Direction::kWrite;
}

// The disk and the GPU that a path goes to, and whether it may end after its environment.
void look_at_storages(Batch& batch) noexcept {
  const TransferRequest& request = batch.request;
  batch.detachable = !batch.traits.memory_only() || request.on_device();
  if (request.on_device()) {
    const SharedStorage& device = request.target->info().on_device ? *request.target : *request.source;
    batch.device = device.links().front().get();
  }
  for (const SharedStorage* storage : {request.source.get(), request.via.get(), request.target.get()}) {
    if (storage == nullptr) continue;
    if (storage->info().persistent) batch.disk = storage->info().disk;
    if (storage->info().borrowed) batch.detachable = false;
  }
}

// How much of a transfer one operation copies.
std::uint64_t copy_bytes_of(const TransferRequest& request) noexcept {
  if (!request.on_device()) return kCopyBytes;
  if (!request.target->info().on_device) return kFromDeviceBytes;
  // One operation, so that a layer of all blocks comes before the next layer of any.
  return request.ready ? ~std::uint64_t{0} : kToDeviceBytes;
}

std::shared_ptr<Batch> make_batch(TransferRequest&& request, std::shared_ptr<ClientState> client) {
  auto batch = std::make_shared<Batch>();
  batch->client = std::move(client);
  batch->traits = traits_of(request.path);
  batch->direction = direction_of(request, batch->traits);
  const StorageInfo& info = batch->traits.writes_disk ? request.target->info() : request.source->info();
  const std::uint64_t block_bytes = info.shape.block_bytes();
  batch->stores = stores_for(block_bytes * request.moves.size());
  batch->plan =
      plan_transfer(request.path, block_bytes, info.shape.slot_stride(), request.moves, copy_bytes_of(request));
  batch->unknown_blocks = static_cast<std::uint32_t>(request.moves.size());
  batch->outcomes.assign(request.moves.size(), kUnknownOutcome);
  batch->request = std::move(request);
  look_at_storages(*batch);
  return batch;
}

bool uses(const Batch& batch, const SharedStorage& storage) noexcept {
  const TransferRequest& request = batch.request;
  return request.source.get() == &storage || request.via.get() == &storage || request.target.get() == &storage;
}

}  // namespace

Result<std::unique_ptr<EngineClient>> EngineClient::open(const EngineOptions& options, Listener& listener) {
  if (options.queue_blocks == 0) return Status(Code::kInvalidValue, "the engine's queue must hold at least 1 block");
  Result<std::shared_ptr<Engine>> engine = Engine::acquire(options.threads);
  if (!engine.is_ok()) return engine.status();
  std::unique_ptr<EngineClient> client(new EngineClient());
  client->owner_ = std::move(engine).value();
  client->engine_ = client->owner_.get();
  client->state_ = std::make_shared<ClientState>();
  client->state_->limits.bytes_in_flight = {options.read_bytes_in_flight, options.write_bytes_in_flight};
  client->state_->limits.queue_blocks = options.queue_blocks;
  client->state_->limits.queue_tasks = options.queue_tasks;
  client->state_->listener = &listener;
  return client;
}

EngineClient::~EngineClient() {
  shutdown();
}

void EngineClient::widen(const EngineOptions& options) {
  Engine* const engine = engine_;
  if (engine == nullptr) return;
  Engine::Lock lock(engine->mutex_);
  ClientLimits& limits = state_->limits;
  limits.bytes_in_flight[0] = std::max(limits.bytes_in_flight[0], options.read_bytes_in_flight);
  limits.bytes_in_flight[1] = std::max(limits.bytes_in_flight[1], options.write_bytes_in_flight);
  limits.queue_blocks = std::max(limits.queue_blocks, options.queue_blocks);
  engine->unlock(lock);
}

Result<std::shared_ptr<SharedStorage>> EngineClient::adopt(std::unique_ptr<Storage> storage,
                                                           std::shared_ptr<const void> keeps) {
  Engine* const engine = engine_;
  if (engine == nullptr) return closed();
  const StorageInfo& info = storage->info();
  if (info.persistent || info.on_device) {
    const std::uint64_t stride = info.shape.slot_stride();
    const Status status = engine->ensure_staging(stride * run_blocks(stride));
    if (!status.is_ok()) return status;
  }
  if (info.on_device) {
    const Status status = engine->watcher_.start();
    if (!status.is_ok()) return status;
  }
  std::uint64_t id = 0;
  {
    const Engine::Lock lock(engine->mutex_);
    id = engine->next_storage_id_++;
  }
  auto shared = SharedStorage::make(id, std::move(storage), std::move(keeps));
  if (shared.is_ok() && shared.value()->info().on_device) {
    const std::uint64_t stride = shared.value()->info().shape.slot_stride();
    shared.value()->links()[0]->host_staging().make_room(stride * run_blocks(stride));
  }
  return shared;
}

Status EngineClient::close(const std::shared_ptr<SharedStorage>& storage, std::uint32_t ticket) {
  Engine* const engine = engine_;
  if (engine == nullptr) return closed();
  std::vector<std::shared_ptr<Batch>> waiting;  // let go after the lock
  Engine::Lock lock(engine->mutex_);
  if (state_->closed) return closed();
  if (storage->use.closing) return closed_storage(*storage);
  storage->use.closing = true;
  storage->use.reports_close = true;
  storage->use.close_ticket = ticket;
  // The storage must not be destroyed under the batches below while the lock is given up for their reports.
  engine->begin_use(*storage);
  waiting = engine->schedule_.waiting_of(*state_);
  for (const std::shared_ptr<Batch>& batch : waiting) {
    if (!uses(*batch, *storage)) continue;
    engine->end_early(*batch, Code::kClosed, false);
    engine->report_batch(lock, batch);
  }
  engine->end_use(state_, storage);
  engine->unlock(lock);
  return Status::ok();
}

void EngineClient::retire(const std::shared_ptr<SharedStorage>& storage) {
  Engine* const engine = engine_;
  if (engine == nullptr) return;
  Engine::Lock lock(engine->mutex_);
  if (std::exchange(storage->use.closing, true)) return;
  engine->destroy_when_unused(state_, storage);
  engine->unlock(lock);
}

Status EngineClient::hold(const std::shared_ptr<SharedStorage>& storage) {
  Engine* const engine = engine_;
  if (engine == nullptr) return closed();
  const Engine::Lock lock(engine->mutex_);
  if (state_->closed) return closed();
  if (storage->use.closing) return closed_storage(*storage);
  engine->begin_use(*storage);
  return Status::ok();
}

void EngineClient::release(const std::shared_ptr<SharedStorage>& storage) {
  Engine* const engine = engine_;
  if (engine == nullptr) return;
  Engine::Lock lock(engine->mutex_);
  engine->end_use(state_, storage);
  engine->unlock(lock);
}

Status EngineClient::submit(TransferRequest&& request) {
  Engine* const engine = engine_;
  if (engine == nullptr) return closed();
  if (Status status = validate(request); !status.is_ok()) return status;
  const std::uint32_t ticket = request.ticket;
  std::shared_ptr<Batch> batch = make_batch(std::move(request), state_);
  const auto blocks = static_cast<std::uint32_t>(batch->request.moves.size());

  Engine::Lock lock(engine->mutex_);
  if (state_->closed) return closed();
  for (const SharedStorage* storage :
       {batch->request.source.get(), batch->request.via.get(), batch->request.target.get()}) {
    if (storage != nullptr && storage->use.closing) return closed_storage(*storage);
  }
  if (blocks > state_->limits.queue_blocks - state_->blocks) {
    return Status(Code::kQueueFull, std::to_string(blocks) + " blocks asked for, " + std::to_string(state_->blocks) +
                                        " in flight; the queue holds " + std::to_string(state_->limits.queue_blocks));
  }
  if (!state_->batches.emplace(ticket, batch).second) {
    return Status(Code::kInvalidValue, "ticket " + std::to_string(ticket) + " is in use");
  }
  for (SharedStorage* storage : {batch->request.source.get(), batch->request.via.get(), batch->request.target.get()}) {
    if (storage != nullptr) engine->begin_use(*storage);
  }
  state_->blocks += blocks;
  if (blocks == 0) {
    engine->report_batch(lock, batch);
  } else {
    engine->schedule_.add(*batch);
  }
  engine->unlock(lock);
  return Status::ok();
}

void EngineClient::cancel(std::uint32_t ticket, Code code) {
  Engine* const engine = engine_;
  if (engine == nullptr) return;
  std::shared_ptr<Batch> batch;  // let go after the lock
  Engine::Lock lock(engine->mutex_);
  const auto found = state_->batches.find(ticket);
  if (found == state_->batches.end()) return;
  batch = found->second;
  engine->end_early(*batch, code, true);
  engine->report_batch(lock, batch);
  engine->unlock(lock);
}

Status EngineClient::start(std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                           std::function<TaskOutcome()> body) {
  Engine* const engine = engine_;
  if (engine == nullptr) return closed();
  KVTIER_CHECK(lane != Lane::kDisk || uses.empty() || uses.front()->info().persistent);
  auto task = std::make_unique<Task>();
  task->client = state_;
  task->lane = lane;
  task->ticket = ticket;
  task->body = std::move(body);
  Engine::Lock lock(engine->mutex_);
  if (state_->closed) return closed();
  for (const std::shared_ptr<SharedStorage>& storage : uses) {
    if (storage->use.closing) return closed_storage(*storage);
  }
  if (state_->tasks >= state_->limits.queue_tasks) {
    return Status(Code::kQueueFull,
                  std::to_string(state_->tasks) + " calls have not ended; more than that are not taken");
  }
  for (const std::shared_ptr<SharedStorage>& storage : uses) engine->begin_use(*storage);
  ++state_->tasks;
  task->uses = std::move(uses);
  engine->schedule_.add(std::move(task));
  engine->unlock(lock);
  return Status::ok();
}

void EngineClient::let_go(std::shared_ptr<const void> share) {
  Engine* const engine = engine_;
  if (engine == nullptr) return;
  auto task = std::make_unique<Task>();
  task->client = state_;
  task->lane = Lane::kShort;
  task->reports = false;
  task->body = [share = std::move(share)] { return TaskOutcome{}; };
  Engine::Lock lock(engine->mutex_);
  if (state_->closed) return;
  ++state_->tasks;
  engine->schedule_.add(std::move(task));
  engine->unlock(lock);
}

void EngineClient::shutdown(std::chrono::milliseconds patience) noexcept {
  Engine* const engine = engine_;
  if (engine == nullptr) return;
  ClientState& state = *state_;
  {
    // Declared before the lock, so that what they hold is let go outside it.
    std::list<std::unique_ptr<Task>> tasks;
    std::unordered_map<std::uint32_t, std::shared_ptr<Batch>> batches;
    Engine::Lock lock(engine->mutex_);
    state.closed = true;
    tasks = engine->schedule_.drop(state);
    engine_ = nullptr;
    engine->drained_.wait_for(lock, patience, [&] { return state.running == 0 && state.reporting == 0; });
    engine->drained_.wait(lock, [&] { return state.running == state.detachable && state.reporting == 0; });
    state.abandoned = true;
    engine->abandoned_ += state.running;
    batches = std::exchange(state.batches, {});
    engine->unlock(lock);
  }
  Engine::let_go(std::move(owner_));
}

}  // namespace kvtier
