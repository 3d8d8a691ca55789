#include "transfer/device/fence.h"

#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

// Only a stream can wait for what an event marks: one that has nothing else to do waits, and marks that in an event of
// our own.
Result<std::shared_ptr<const Fence>> capture(DeviceLink& link, cuda::Event event,
                                             std::shared_ptr<const Fence> (*make)(CudaEvent)) {
  Result<CudaEvent> mark = CudaEvent::create(link.context());
  if (!mark.is_ok()) return mark.status();
  const Status status = link.with_side_stream([&](const CudaStream& stream) {
    if (Status waits = stream.wait_for(event); !waits.is_ok()) return waits;
    return mark.value().record(stream.handle());
  });
  if (!status.is_ok()) return status;
  return make(std::move(mark).value());
}

}  // namespace

std::shared_ptr<const Fence> Fence::make(CudaEvent event) {
  return std::shared_ptr<const Fence>(new Fence(std::move(event)));
}

Result<std::shared_ptr<const Fence>> Fence::after_stream(DeviceLink& link, cuda::Stream stream) {
  const auto current = CurrentContext::enter(*link.context());
  if (!current.is_ok()) return current.status();
  Result<CudaEvent> mark = CudaEvent::create(link.context());
  if (!mark.is_ok()) return mark.status();
  if (Status status = mark.value().record(stream); !status.is_ok()) return status;
  return make(std::move(mark).value());
}

Result<std::shared_ptr<const Fence>> Fence::after_event(DeviceLink& link, cuda::Event event) {
  const auto current = CurrentContext::enter(*link.context());
  if (!current.is_ok()) return current.status();
  return capture(link, event, &Fence::make);
}

Result<std::shared_ptr<const Fence>> Fence::after_ipc(DeviceLink& link, const cuda::IpcEventHandle& handle) {
  const cuda::Functions& functions = link.context()->functions();
  const auto current = CurrentContext::enter(*link.context());
  if (!current.is_ok()) return current.status();
  cuda::Event event = nullptr;
  if (const cuda::Error error = functions.ipc_open_event_handle(&event, handle); error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuIpcOpenEventHandle of another process's event");
  }
  Result<std::shared_ptr<const Fence>> fence = capture(link, event, &Fence::make);
  static_cast<void>(functions.event_destroy(event));
  return fence;
}

Result<bool> Fence::is_passed() const {
  if (Status status = event_.context().make_current(); !status.is_ok()) return status;
  return event_.is_done();
}

}  // namespace kvtier
