// The simulated driver: everything that its calls and its thread share, behind one mutex, and the door that every call
// comes in by.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "support/sim-cuda/context.h"
#include "support/sim-cuda/event.h"
#include "support/sim-cuda/failures.h"
#include "support/sim-cuda/fair_mutex.h"
#include "support/sim-cuda/functions.h"
#include "support/sim-cuda/handle_table.h"
#include "support/sim-cuda/journal.h"
#include "support/sim-cuda/kernels.h"
#include "support/sim-cuda/memory.h"
#include "support/sim-cuda/scheduler.h"
#include "support/sim-cuda/settings.h"
#include "support/sim-cuda/stream.h"

namespace kvtier::sim {

// One a process; it is never destroyed, for its thread and its callers may outlive main().
struct DriverState {
  // With the environment's settings (KVTIER_SIM_CUDA) and then those.
  void reset(const char* text);
  // Gives the settings that are in effect to what follows them.
  void apply();

  // Gives up a reference to a device's context, or ends it.
  cuda::Error release(DeviceState& device);

  FairMutex mutex;                     // guards all below
  std::condition_variable_any called;  // a call was counted
  // The process that called cuInit; 0 before. Read without the mutex, which a fork may have left locked.
  std::atomic<std::int32_t> process{0};
  std::uint64_t generation = 0;  // resets

  Settings settings;
  Journal journal;
  Failures failures;
  std::vector<DeviceState> devices;
  HandleTable<ContextState, cuda::Context> contexts{1};
  HandleTable<StreamState, cuda::Stream> streams{2};
  HandleTable<EventState, cuda::Event> events{3};
  HandleTable<ModuleState, cuda::Module> modules{4};
  HandleTable<FunctionState, cuda::Function> functions{5};
  Memory memory{settings, journal};
  Scheduler scheduler{mutex, settings, failures, journal};
};

[[nodiscard]] DriverState& driver_state();

// The calling thread's current context; nullptr: none.
[[nodiscard]] cuda::Context current_context();
void set_current_context(cuda::Context context);

// What a call needs before it does anything.
enum class Needs : std::uint8_t {
  kNothing,
  kDriver,   // cuInit, in this process
  kContext,  // and a current context that is alive and not in error
};

// A call from its entry to its return: it is counted, answers what is planned for it, and holds the mutex.
class Call {
 public:
  Call(Function function, Needs needs);
  ~Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Whether the call may do its work; if not, error() is its answer.
  explicit operator bool() const { return error_ == cuda::Error::kSuccess; }
  [[nodiscard]] cuda::Error error() const { return error_; }

  [[nodiscard]] std::string_view name() const { return info_of(function_).base; }
  [[nodiscard]] DriverState& state() const { return state_; }
  [[nodiscard]] Scheduler& scheduler() const { return state_.scheduler; }
  [[nodiscard]] std::unique_lock<FairMutex>& lock() { return lock_; }
  [[nodiscard]] const std::shared_ptr<ContextState>& context() const { return context_; }

  // What a handle in the call means. A stale one is a violation, for a real driver may crash on it.
  [[nodiscard]] cuda::Error find(cuda::Stream handle, std::shared_ptr<StreamState>& stream);
  [[nodiscard]] cuda::Error find(cuda::Event handle, std::shared_ptr<EventState>& event);
  [[nodiscard]] cuda::Error find(cuda::Device device, DeviceState*& found);

  void violation(const std::string& text) { state_.journal.violation(std::string(name()) + ": " + text); }

 private:
  [[nodiscard]] cuda::Error enter(Needs needs);

  DriverState& state_;
  Function function_;
  std::unique_lock<FairMutex> lock_;
  std::shared_ptr<ContextState> context_;
  cuda::Error error_ = cuda::Error::kSuccess;
};

}  // namespace kvtier::sim
