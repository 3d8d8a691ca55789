// Copies in both directions at once: a way of the device limit, queued twice.
#include <thread>

#include "device_limit.h"

namespace limits {

using kvtier::Result;
using kvtier::Status;

Result<Elapsed> DeviceLimit::run_both(DeviceLimit& away, DeviceLimit& towards, DeviceWay way, unsigned kernel_blocks) {
  const auto current = kvtier::CurrentContext::enter(*away.context_);
  if (!current.is_ok()) return current.status();
  if (Status status = away.start_.record(away.stream_.handle()); !status.is_ok()) return status;
  if (Status status = towards.stream_.wait_for(away.start_.handle()); !status.is_ok()) return status;

  const auto queue = [way, kernel_blocks](DeviceLimit& limit, bool to_device, double& cpu_seconds) -> Status {
    const auto entered = kvtier::CurrentContext::enter(*limit.context_);
    if (!entered.is_ok()) return entered.status();
    const double before = thread_cpu_seconds();
    Status status = limit.enqueue(way, to_device, kernel_blocks);
    cpu_seconds = thread_cpu_seconds() - before;
    return status;
  };
  double away_seconds = 0;
  double towards_seconds = 0;
  Status towards_status = Status::ok();
  std::thread other([&] { towards_status = queue(towards, true, towards_seconds); });
  const Status away_status = queue(away, false, away_seconds);
  other.join();
  // Memory is free again only when what was queued has run, also after a failure.
  if (Status status = towards.end_.record(towards.stream_.handle()); !status.is_ok()) return status;
  if (Status status = away.stream_.wait_for(towards.end_.handle()); !status.is_ok()) return status;
  if (Status status = away.end_.record(away.stream_.handle()); !status.is_ok()) return status;
  if (Status status = away.end_.synchronize(); !status.is_ok()) return status;
  if (!away_status.is_ok()) return away_status;
  if (!towards_status.is_ok()) return towards_status;
  const auto seconds = away.measured_seconds();
  if (!seconds.is_ok()) return seconds.status();
  return Elapsed{.wall_seconds = seconds.value(), .cpu_seconds = away_seconds + towards_seconds};
}

Result<bool> DeviceLimit::are_right(DeviceLimit& away, DeviceLimit& towards, DeviceWay way, unsigned kernel_blocks) {
  const auto current = kvtier::CurrentContext::enter(*away.context_);
  if (!current.is_ok()) return current.status();
  for (DeviceLimit* const limit : {&away, &towards}) {
    if (Status status = limit->fill_memory(); !status.is_ok()) return status;
  }
  if (const auto elapsed = run_both(away, towards, way, kernel_blocks); !elapsed.is_ok()) return elapsed.status();
  for (DeviceLimit* const limit : {&away, &towards}) {
    const auto holds = limit->holds_copies(way, limit == &towards);
    if (!holds.is_ok()) return holds.status();
    if (!holds.value()) return false;
  }
  return true;
}

}  // namespace limits
