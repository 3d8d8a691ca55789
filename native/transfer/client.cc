// EngineClient: one environment's share of the engine.
#include <algorithm>
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

std::shared_ptr<Batch> make_batch(TransferRequest&& request, std::shared_ptr<ClientState> client) {
  auto batch = std::make_shared<Batch>();
  batch->client = std::move(client);
  batch->traits = traits_of(request.path);
  batch->direction = direction_of(request, batch->traits);
  const StorageInfo& info = batch->traits.writes_disk ? request.target->info() : request.source->info();
  const std::uint64_t block_bytes = info.shape.block_bytes();
  batch->stores = stores_for(block_bytes * request.moves.size());
  batch->plan = plan_transfer(request.path, block_bytes, info.shape.slot_stride(), request.moves);
  batch->unknown_blocks = static_cast<std::uint32_t>(request.moves.size());
  batch->outcomes.assign(request.moves.size(), kUnknownOutcome);
  batch->request = std::move(request);
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
  client->engine_ = std::move(engine).value();
  client->state_ = std::make_shared<ClientState>();
  client->state_->limits.bytes_in_flight = {options.read_bytes_in_flight, options.write_bytes_in_flight};
  client->state_->limits.queue_blocks = options.queue_blocks;
  client->state_->listener = &listener;
  return client;
}

EngineClient::~EngineClient() {
  shutdown();
}

void EngineClient::widen(const EngineOptions& options) {
  if (!engine_) return;
  const Engine::Lock lock(engine_->mutex_);
  ClientLimits& limits = state_->limits;
  limits.bytes_in_flight[0] = std::max(limits.bytes_in_flight[0], options.read_bytes_in_flight);
  limits.bytes_in_flight[1] = std::max(limits.bytes_in_flight[1], options.write_bytes_in_flight);
  limits.queue_blocks = std::max(limits.queue_blocks, options.queue_blocks);
}

Result<std::shared_ptr<SharedStorage>> EngineClient::adopt(std::unique_ptr<Storage> storage,
                                                           std::shared_ptr<const void> keeps) {
  const StorageInfo& info = storage->info();
  if (info.persistent) {
    const Status status = engine_->ensure_staging(info.slot_stride * run_blocks(info.slot_stride));
    if (!status.is_ok()) return status;
  }
  std::uint64_t id = 0;
  {
    const Engine::Lock lock(engine_->mutex_);
    id = engine_->next_storage_id_++;
  }
  return SharedStorage::make(id, std::move(storage), std::move(keeps));
}

Status EngineClient::close(const std::shared_ptr<SharedStorage>& storage, std::uint32_t ticket) {
  if (!engine_) return closed();
  std::vector<std::shared_ptr<Batch>> waiting;  // let go after the lock
  Engine::Lock lock(engine_->mutex_);
  if (state_->closed) return closed();
  if (storage->use.closing) return closed_storage(*storage);
  storage->use.closing = true;
  storage->use.reports_close = true;
  storage->use.close_ticket = ticket;
  // The storage must not be destroyed under the batches below while the lock is given up for their reports.
  engine_->begin_use(*storage);
  waiting = engine_->schedule_.waiting_of(*state_);
  for (const std::shared_ptr<Batch>& batch : waiting) {
    if (!uses(*batch, *storage)) continue;
    engine_->end_early(*batch, Code::kClosed, false);
    engine_->report_batch(lock, batch);
  }
  engine_->end_use(state_, storage);
  return Status::ok();
}

void EngineClient::retire(const std::shared_ptr<SharedStorage>& storage) {
  if (!engine_) return;
  const Engine::Lock lock(engine_->mutex_);
  if (std::exchange(storage->use.closing, true)) return;
  engine_->destroy_when_unused(state_, storage);
}

Status EngineClient::hold(const std::shared_ptr<SharedStorage>& storage) {
  if (!engine_) return closed();
  const Engine::Lock lock(engine_->mutex_);
  if (state_->closed) return closed();
  if (storage->use.closing) return closed_storage(*storage);
  engine_->begin_use(*storage);
  return Status::ok();
}

void EngineClient::release(const std::shared_ptr<SharedStorage>& storage) {
  if (!engine_) return;
  const Engine::Lock lock(engine_->mutex_);
  engine_->end_use(state_, storage);
}

Status EngineClient::submit(TransferRequest&& request) {
  if (!engine_) return closed();
  if (Status status = validate(request); !status.is_ok()) return status;
  const std::uint32_t ticket = request.ticket;
  std::shared_ptr<Batch> batch = make_batch(std::move(request), state_);
  const auto blocks = static_cast<std::uint32_t>(batch->request.moves.size());

  Engine::Lock lock(engine_->mutex_);
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
    if (storage != nullptr) engine_->begin_use(*storage);
  }
  state_->blocks += blocks;
  if (blocks == 0) {
    engine_->report_batch(lock, batch);
    return Status::ok();
  }
  engine_->schedule_.add(batch);
  engine_->wake_.notify_one();
  return Status::ok();
}

void EngineClient::cancel(std::uint32_t ticket, Code code) {
  if (!engine_) return;
  std::shared_ptr<Batch> batch;  // let go after the lock
  Engine::Lock lock(engine_->mutex_);
  const auto found = state_->batches.find(ticket);
  if (found == state_->batches.end()) return;
  batch = found->second;
  engine_->end_early(*batch, code, true);
  engine_->report_batch(lock, batch);
}

Status EngineClient::start(std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                           std::function<TaskOutcome()> body) {
  if (!engine_) return closed();
  auto task = std::make_unique<Task>();
  task->client = state_;
  task->lane = lane;
  task->ticket = ticket;
  task->body = std::move(body);
  const Engine::Lock lock(engine_->mutex_);
  if (state_->closed) return closed();
  for (const std::shared_ptr<SharedStorage>& storage : uses) {
    if (storage->use.closing) return closed_storage(*storage);
  }
  for (const std::shared_ptr<SharedStorage>& storage : uses) engine_->begin_use(*storage);
  task->uses = std::move(uses);
  engine_->schedule_.add(std::move(task));
  engine_->wake_.notify_one();
  return Status::ok();
}

void EngineClient::shutdown() noexcept {
  if (!engine_) return;
  // Declared before the lock, so that what they hold is let go outside it.
  std::vector<std::unique_ptr<Task>> tasks;
  std::unordered_map<std::uint32_t, std::shared_ptr<Batch>> batches;
  {
    Engine::Lock lock(engine_->mutex_);
    state_->closed = true;
    for (const auto& [ticket, batch] : state_->batches) engine_->end_early(*batch, Code::kClosed, true);
    tasks = engine_->schedule_.drop_tasks(*state_);
    engine_->drained_.wait(lock, [&] { return state_->running == 0; });
    batches = std::exchange(state_->batches, {});
  }
  batches.clear();
  tasks.clear();
  engine_.reset();
}

}  // namespace kvtier
