// The process-wide transfer engine: threads that run transfers and tasks of all environments. The first client starts
// the threads, the last one joins them. A client belongs to one environment; its functions are called by that
// environment's thread, adopt() also by the tasks it started. Everything is reported through the client's Listener.
//
// Life of a transfer: submit (validated, planned, queued) -> operations run on threads -> done (every block's outcome
// is known, or the transfer was cancelled) -> settled (nothing touches the memory any more).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.h"
#include "memory/host_buffer.h"
#include "platform/thread.h"
#include "transfer/listener.h"
#include "transfer/request.h"
#include "transfer/runner.h"
#include "transfer/schedule.h"

namespace kvtier {

struct EngineOptions {
  unsigned threads = 0;  // of the process; the first client's wish counts. 0 = twice the processors, between 2 and 8
  std::uint64_t read_bytes_in_flight = std::uint64_t{8} << 20;
  std::uint64_t write_bytes_in_flight = std::uint64_t{8} << 20;
  std::uint32_t queue_blocks = 65536;  // blocks submitted and not finished
};

inline constexpr unsigned kMaxEngineThreads = 64;

class Engine {
 public:
  // The process's engine, started if there is none. Any thread. Fails with kOutOfMemory.
  [[nodiscard]] static Result<std::shared_ptr<Engine>> acquire(unsigned threads);
  // Joins the threads. Not on one of them.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  [[nodiscard]] unsigned thread_count() const noexcept { return thread_count_; }

 private:
  friend class EngineClient;
  using Lock = std::unique_lock<std::mutex>;

  struct Seat {
    HostBuffer next_staging;  // a larger buffer that the thread takes before its next work
    Thread thread;
  };

  explicit Engine(unsigned threads);
  void work(Seat& seat);
  void run_op(Lock& lock, Work& work, Runner& runner, std::span<std::byte> staging);
  void run_task(Lock& lock, Work& work);
  void report_task(Lock& lock, const Task& task, TaskOutcome& outcome);
  // The rest is called with the lock held; report_batch() gives it up while it is in the listener.
  void commit(const Work& work, const OpResult& result);
  void end_early(Batch& batch, Code code, bool running_too);
  void report_batch(Lock& lock, const std::shared_ptr<Batch>& batch);
  void end_uses(const Batch& batch);
  void begin_use(SharedStorage& storage) noexcept;
  void end_use(const std::shared_ptr<ClientState>& client, const std::shared_ptr<SharedStorage>& storage);
  void destroy_when_unused(const std::shared_ptr<ClientState>& client, const std::shared_ptr<SharedStorage>& storage);
  void leave(ClientState& client) noexcept;
  [[nodiscard]] Status ensure_staging(std::uint64_t size_bytes);

  const unsigned thread_count_;

  // Guards all below, every ClientState, SharedStorage::use, and what Batch says is guarded.
  std::mutex mutex_;
  std::condition_variable wake_;     // there may be work, or the threads must end
  std::condition_variable drained_;  // a client's running work may have ended
  Schedule schedule_;
  unsigned idle_ = 0;
  bool stopping_ = false;
  std::uint64_t staging_bytes_ = 0;
  std::uint64_t next_storage_id_ = 1;
  std::vector<Seat> seats_;

  // Taken before mutex_: one thread at a time makes staging larger.
  std::mutex staging_mutex_;
};

class EngineClient {
 public:
  // `listener` outlives the client's shutdown(). Fails with kOutOfMemory, kInvalidValue.
  [[nodiscard]] static Result<std::unique_ptr<EngineClient>> open(const EngineOptions& options, Listener& listener);
  // Shuts down.
  ~EngineClient();
  EngineClient(const EngineClient&) = delete;
  EngineClient& operator=(const EngineClient&) = delete;

  // Raises the limits to those of `options` where they are larger; the threads stay as they are.
  void widen(const EngineOptions& options);

  // Shares a storage with the engine; staging buffers for it are made here, not later. `keeps` is let go after the
  // storage. Takes long (memory is touched): not on an event loop, unless the storage is not persistent.
  [[nodiscard]] Result<std::shared_ptr<SharedStorage>> adopt(std::unique_ptr<Storage> storage,
                                                             std::shared_ptr<const void> keeps = nullptr);
  // New transfers are refused from here on; what is queued is cancelled with kClosed, what runs ends. Then the storage
  // is destroyed and `ticket` reports. Fails with kClosed when it was closed before.
  [[nodiscard]] Status close(const std::shared_ptr<SharedStorage>& storage, std::uint32_t ticket);
  // The same without a report and without cancelling: nobody holds the storage's handle any more.
  void retire(const std::shared_ptr<SharedStorage>& storage);
  // Keeps a storage from being destroyed, for work outside the engine (a window). Fails with kClosed.
  [[nodiscard]] Status hold(const std::shared_ptr<SharedStorage>& storage);
  void release(const std::shared_ptr<SharedStorage>& storage);

  // Fails, and starts nothing: those of validate(), kClosed, kQueueFull, kInvalidValue (the ticket is in use).
  [[nodiscard]] Status submit(TransferRequest&& request);
  // Blocks that have not arrived become misses with `code`, and done is reported at once; settled follows. What a
  // running operation still does is not published. No effect when the ticket is not a transfer in flight.
  void cancel(std::uint32_t ticket, Code code);

  // Runs `body` on an engine thread and reports its outcome. `uses` stay open meanwhile. Fails with kClosed.
  [[nodiscard]] Status start(std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                             std::function<TaskOutcome()> body);

  // Drops what is queued, waits for what runs, and ends the client's share of the engine. Afterwards every call fails
  // with kClosed or does nothing, and the listener is not called any more.
  void shutdown() noexcept;

 private:
  EngineClient() = default;

  std::shared_ptr<ClientState> state_;
  std::shared_ptr<Engine> engine_;  // null after shutdown()
};

}  // namespace kvtier
