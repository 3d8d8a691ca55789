#include "transfer/device/device_link.h"

#include <algorithm>
#include <string>
#include <utility>

namespace kvtier {
namespace {

// More than waits of engines that are captured at once; beyond them such waits wait for each other.
constexpr std::size_t kSideStreams = 16;

// Never destroyed, so that threads that outlive main() find it.
struct Registry {
  std::mutex mutex;  // guards the links
  std::vector<std::weak_ptr<DeviceLink>> links;
};

Registry& registry() {
  static Registry* instance = new Registry();
  return *instance;
}

}  // namespace

Result<std::shared_ptr<DeviceLink>> DeviceLink::get(const std::shared_ptr<const CudaContext>& context) {
  const std::lock_guard guard(registry().mutex);
  std::vector<std::weak_ptr<DeviceLink>>& links = registry().links;
  std::erase_if(links, [](const std::weak_ptr<DeviceLink>& link) { return link.expired(); });
  for (const std::weak_ptr<DeviceLink>& each : links) {
    std::shared_ptr<DeviceLink> link = each.lock();
    if (link && link->context_->handle() == context->handle()) return link;
  }
  // What brings blocks to the GPU goes first there as well.
  Result<CudaStream> to_device = CudaStream::create(context, CudaStreamPriority::kHigh);
  if (!to_device.is_ok()) return to_device.status();
  Result<CudaStream> from_device = CudaStream::create(context, CudaStreamPriority::kNormal);
  if (!from_device.is_ok()) return from_device.status();
  Result<std::unique_ptr<Copier>> copier = Copier::create(context, CopierOptions{});
  if (!copier.is_ok()) return copier.status();
  std::unique_ptr<DeviceVerifier> verifier;
  if (copier.value()->kernels() != nullptr) {
    auto made = DeviceVerifier::create(context, *copier.value()->kernels());
    if (!made.is_ok()) return made.status();
    verifier = std::move(made).value();
  }
  std::shared_ptr<DeviceLink> link(new DeviceLink(context, std::move(to_device).value(), std::move(from_device).value(),
                                                  std::move(copier).value(), std::move(verifier)));
  links.push_back(link);
  return link;
}

DeviceLink::DeviceLink(std::shared_ptr<const CudaContext> context, CudaStream to_device, CudaStream from_device,
                       std::unique_ptr<Copier> copier, std::unique_ptr<DeviceVerifier> verifier)
    : context_(std::move(context)),
      host_staging_(context_),
      copier_(std::move(copier)),
      verifier_(std::move(verifier)),
      to_device_{.mutex = {}, .stream = std::move(to_device)},
      from_device_{.mutex = {}, .stream = std::move(from_device)} {}

Status DeviceLink::enter() const {
  if (is_lost()) {
    return Status(Code::kDeviceLost, "GPU " + std::to_string(context_->device().ordinal) +
                                         " failed before; this process must be restarted to use it again");
  }
  return context_->make_current();
}

Result<CudaEvent> DeviceLink::take_event() {
  {
    const std::lock_guard guard(mutex_);
    if (!events_.empty()) {
      CudaEvent event = std::move(events_.back());
      events_.pop_back();
      return event;
    }
  }
  return CudaEvent::create(context_);
}

void DeviceLink::give_back(CudaEvent&& event) noexcept {
  const std::lock_guard guard(mutex_);
  events_.push_back(std::move(event));
}

Status DeviceLink::with_side_stream(const std::function<Status(const CudaStream&)>& use) {
  const std::lock_guard guard(mutex_);
  for (const CudaStream& stream : side_streams_) {
    if (context_->functions().stream_query(stream.handle()) == cuda::Error::kSuccess) return use(stream);
  }
  if (side_streams_.size() < kSideStreams) {
    Result<CudaStream> stream = CudaStream::create(context_, CudaStreamPriority::kNormal);
    if (!stream.is_ok()) return stream.status();
    side_streams_.push_back(std::move(stream).value());
    return use(side_streams_.back());
  }
  next_side_stream_ = (next_side_stream_ + 1) % kSideStreams;
  return use(side_streams_[next_side_stream_]);
}

Result<CopyFigures> DeviceLink::measure() {
  if (Status status = enter(); !status.is_ok()) return status;
  const std::scoped_lock guard(to_device_.mutex, from_device_.mutex);
  Result<CopyFigures> figures = measure_copies(*copier_);
  if (!figures.is_ok()) note(figures.status());
  return figures;
}

void DeviceLink::note(const Status& status) noexcept {
  if (status.code() == Code::kDeviceLost) lost_.store(true, std::memory_order_relaxed);
}

}  // namespace kvtier
