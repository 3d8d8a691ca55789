// Events: a handle whose latest record is a moment in a stream. A wait captures the moment, not the event. Guarded by
// the simulator's one mutex; an interprocess event's page is shared with other processes and atomic.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "support/sim-cuda/context.h"
#include "support/sim-cuda/mapping.h"
#include "support/sim-cuda/operation.h"

namespace kvtier::sim {

// One record of an event.
class Moment {
 public:
  virtual ~Moment() = default;
  [[nodiscard]] virtual bool is_reached() const = 0;
  virtual void reach() = 0;
  // Whether another process may reach it.
  [[nodiscard]] virtual bool is_foreign() const = 0;

 protected:
  Moment() = default;
};

class LocalMoment final : public Moment {
 public:
  [[nodiscard]] bool is_reached() const override { return reached_; }
  void reach() override;
  [[nodiscard]] bool is_foreign() const override { return false; }
  [[nodiscard]] std::chrono::steady_clock::time_point time() const { return time_; }

 private:
  bool reached_ = false;
  std::chrono::steady_clock::time_point time_;
};

// The memory of an interprocess event. Its first content is all zero.
struct SharedEventPage {
  std::atomic<std::uint64_t> recorded;  // number of the latest record
  std::atomic<std::uint64_t> reached;   // of the latest that was reached
  std::atomic<std::uint32_t> destroyed;
};

struct SharedEvent {
  [[nodiscard]] SharedEventPage& page() const { return *reinterpret_cast<SharedEventPage*>(mapping.get()); }

  Fd file;
  Mapping mapping;
  bool is_owner = true;
};

class SharedMoment final : public Moment {
 public:
  SharedMoment(std::shared_ptr<SharedEvent> event, std::uint64_t number) : event_(std::move(event)), number_(number) {}

  [[nodiscard]] bool is_reached() const override { return event_->page().reached.load() >= number_; }
  void reach() override;
  [[nodiscard]] bool is_foreign() const override { return true; }

 private:
  std::shared_ptr<SharedEvent> event_;
  std::uint64_t number_;
};

struct EventState {
  // The record that a wait or a query of now means; nullptr: none, which counts as reached.
  [[nodiscard]] std::shared_ptr<Moment> latest() const;
  // Begins a new record.
  [[nodiscard]] std::shared_ptr<Moment> record();

  std::shared_ptr<ContextState> context;
  unsigned flags = 0;
  std::shared_ptr<LocalMoment> local;   // the latest record of an ordinary event
  std::shared_ptr<SharedEvent> shared;  // of an interprocess event
};

class RecordOperation final : public Operation {
 public:
  explicit RecordOperation(std::shared_ptr<Moment> moment) : moment_(std::move(moment)) {}

  Progress run(Journal& journal) override;
  void abandon() override { moment_->reach(); }
  [[nodiscard]] std::string text() const override { return "cuEventRecord"; }

 private:
  std::shared_ptr<Moment> moment_;
};

class WaitOperation final : public Operation {
 public:
  explicit WaitOperation(std::shared_ptr<Moment> moment) : moment_(std::move(moment)) {}

  [[nodiscard]] bool is_ready() const override { return moment_->is_reached(); }
  [[nodiscard]] bool is_foreign() const override { return moment_->is_foreign(); }
  Progress run(Journal&) override { return Progress::kDone; }
  [[nodiscard]] std::string text() const override { return "cuStreamWaitEvent"; }

 private:
  std::shared_ptr<Moment> moment_;
};

}  // namespace kvtier::sim
