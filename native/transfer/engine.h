// The process-wide transfer engine: threads that run transfers and tasks of all environments. The first client starts
// the threads, the last one joins them, unless a disk keeps one from ending. A client belongs to one environment; its
// functions are called by that environment's thread, adopt() and retire() also by the tasks it started. Everything is
// reported through the client's Listener.
//
// Life of a transfer: submit (validated, planned, queued) -> operations run on threads -> done (every block's outcome
// is known, or the transfer was cancelled) -> settled (nothing touches the memory any more).
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.h"
#include "memory/host_buffer.h"
#include "platform/thread.h"
#include "transfer/device/device_runner.h"
#include "transfer/device/watcher.h"
#include "transfer/listener.h"
#include "transfer/request.h"
#include "transfer/runner.h"
#include "transfer/schedule.h"

namespace kvtier {

struct EngineOptions {
  // Of the process; the first client's wish counts, within the limits below. 0: as many as keep twice the processors
  // (between 2 and 8) waiting for one disk.
  unsigned threads = 0;
  std::uint64_t read_bytes_in_flight = std::uint64_t{32} << 20;   // for each disk, and for copies towards the GPU
  std::uint64_t write_bytes_in_flight = std::uint64_t{32} << 20;  // for each disk, and for copies away from the GPU
  std::uint32_t queue_blocks = 65536;                             // blocks submitted and not finished
  std::uint32_t queue_tasks = 16384;                              // tasks started and not finished
};

inline constexpr unsigned kMinEngineThreads = kReservedThreads + 1;
inline constexpr unsigned kMaxEngineThreads = 64;

class Engine {
 public:
  // The process's engine, started if there is none. Any thread. Fails with kOutOfMemory.
  [[nodiscard]] static Result<std::shared_ptr<Engine>> acquire(unsigned threads);
  // Lets go of an engine. One with abandoned work stays, as the process's engine, until a client that comes later goes.
  static void let_go(std::shared_ptr<Engine> engine) noexcept;
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

  // What a thread works with.
  struct Hands {
    Runner runner;
    DeviceRunner device_runner;
    HostBuffer staging;
  };

  explicit Engine(unsigned threads);
  void work(Seat& seat);
  // Without the lock, which they leave held.
  void run_op(Lock& lock, Work& work, Hands& hands);
  void run_task(Lock& lock, Work& work);
  // Without the lock too: the next step of an operation that a GPU takes part in. False: it waits for the GPU, and
  // belongs to the watcher; the lock is not held then.
  [[nodiscard]] bool run_device_op(Lock& lock, Work& work, Hands& hands);
  // On the watcher's thread: what an operation waited for has come.
  void go_on(Work&& work);
  void end_op(Lock& lock, Work& work, const OpResult& result);
  // The rest is called with the lock held; the report functions give it up while they are in the listener.
  // Gives the lock up, and wakes a thread where one is missing. Whoever made work startable ends with it.
  void unlock(Lock& lock);
  [[nodiscard]] bool must_wake() noexcept;
  void report_task(Lock& lock, const Task& task, TaskOutcome& outcome);
  void commit(const Work& work, const OpResult& result);
  void count_queued(Lock& lock, const Work& work);
  void end_early(Batch& batch, Code code, bool running_too);
  void report_batch(Lock& lock, const std::shared_ptr<Batch>& batch);
  void end_uses(const Batch& batch);
  void begin_use(SharedStorage& storage) noexcept;
  void end_use(const std::shared_ptr<ClientState>& client, const std::shared_ptr<SharedStorage>& storage);
  void destroy_when_unused(const std::shared_ptr<ClientState>& client, const std::shared_ptr<SharedStorage>& storage);
  void enter_listener(Lock& lock, ClientState& client) noexcept;
  void leave_listener(Lock& lock, ClientState& client) noexcept;
  void enter(ClientState& client, bool detachable) noexcept;
  void leave(ClientState& client, bool detachable) noexcept;
  [[nodiscard]] Status ensure_staging(std::uint64_t size_bytes);

  const unsigned thread_count_;

  // Guards all below, every ClientState, SharedStorage::use, and what Batch says is guarded.
  std::mutex mutex_;
  std::condition_variable wake_;     // there may be work, or the threads must end
  std::condition_variable drained_;  // a closed client's running work, or a report of it, may have ended
  Schedule schedule_;
  unsigned idle_ = 0;    // threads that wait for wake_
  bool waking_ = false;  // a notification is under way to one of them
  bool stopping_ = false;
  std::uint32_t abandoned_ = 0;  // operations and tasks that run for clients that have gone
  std::uint64_t staging_bytes_ = 0;
  std::uint64_t next_storage_id_ = 1;
  std::vector<Seat> seats_;
  DeviceWatcher watcher_;  // has no need of the mutex

  // Taken before mutex_: one thread at a time makes staging larger.
  std::mutex staging_mutex_;
};

class EngineClient {
 public:
  // How long shutdown() waits for disks. Long enough for one that works, so that files are closed and locks released.
  static constexpr std::chrono::milliseconds kPatience{1000};

  // `listener` outlives the client's shutdown(). Fails with kOutOfMemory, kInvalidValue.
  [[nodiscard]] static Result<std::unique_ptr<EngineClient>> open(const EngineOptions& options, Listener& listener);
  // Shuts down.
  ~EngineClient();
  EngineClient(const EngineClient&) = delete;
  EngineClient& operator=(const EngineClient&) = delete;

  // Raises the limits to those of `options` where they are larger; the threads stay as they are.
  void widen(const EngineOptions& options);

  // Shares a storage with the engine; staging buffers for it are made here, not later. `keeps` is let go after the
  // storage. Takes long (memory is touched): not on an event loop, unless the storage is not persistent. Fails with
  // kClosed, kOutOfMemory.
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

  // Runs `body` on an engine thread and reports its outcome. `uses` stay open meanwhile. A task of Lane::kDisk is about
  // the first of `uses`, a persistent one, or about a disk that nobody knows yet; it may end after shutdown(), so it
  // shares what it needs. Fails with kClosed, kQueueFull.
  [[nodiscard]] Status start(std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                             std::function<TaskOutcome()> body);

  // Lets go of a share on an engine thread, for something whose end takes too long for an event loop. Always taken,
  // and reports nothing; once shutdown() has begun the share goes at once.
  void let_go(std::shared_ptr<const void> share);

  // Drops what is queued, waits for what runs, and ends the client's share of the engine. Afterwards every call fails
  // with kClosed or does nothing, and the listener is not called any more. What may be stuck in a disk is waited for no
  // longer than `patience`, unless it touches memory that was lent: the rest ends when the disk answers, and touches
  // nothing of the environment.
  void shutdown(std::chrono::milliseconds patience = kPatience) noexcept;

 private:
  EngineClient() = default;

  std::shared_ptr<ClientState> state_;
  std::shared_ptr<Engine> owner_;  // the environment's thread; null after shutdown()
  // The same, for any thread; null once shutdown() has begun. A task may use it as long as it runs: shutdown() waits
  // for the task, or leaves the engine to it.
  std::atomic<Engine*> engine_{nullptr};
};

}  // namespace kvtier
