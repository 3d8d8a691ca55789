#include "device_limit.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "platform/cuda/cuda_error.h"
#include "transfer/device/calibrate.h"
#include "transfer/device/strategies/single.h"

namespace limits {

using kvtier::Code;
using kvtier::Result;
using kvtier::Status;

namespace {

constexpr std::size_t kPageBytes = 4096;
// Of the bytes on each side before a copy is checked.
constexpr std::uint64_t kDeviceSeed = 1;
constexpr std::uint64_t kHostSeed = 2;

std::size_t whole_pages(std::size_t bytes) noexcept {
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

// A drawn order that is the same in every run.
void shuffle(std::vector<kvtier::SlotPair>& pairs) {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  for (std::size_t i = pairs.size(); i > 1; --i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(pairs[i - 1].device, pairs[(state >> 33) % i].device);
  }
}

// Bytes of which neither runs nor blocks repeat each other.
void fill(unsigned char* bytes, std::size_t count, std::uint64_t seed) {
  std::uint64_t state = seed;
  for (std::size_t at = 0; at < count; at += sizeof(state)) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t word = state ^ (state >> 32);
    std::memcpy(bytes + at, &word, std::min(sizeof(word), count - at));
  }
}

Status unsupported(const char* why) {
  return {Code::kUnsupported, why};
}

}  // namespace

Result<DeviceWay> device_way_of(std::string_view name) {
#define LIMITS_DEVICE_WAY_IF(way, text) \
  if (name == text) return DeviceWay::way;
  LIMITS_DEVICE_WAYS(LIMITS_DEVICE_WAY_IF)
#undef LIMITS_DEVICE_WAY_IF
  return Status(Code::kInvalidValue, "'" + std::string(name) + "' is no way to copy");
}

Result<std::unique_ptr<DeviceLimit>> DeviceLimit::make(const std::string& library, int ordinal,
                                                       const DeviceGrid& grid) {
  auto context = kvtier::CudaContext::retain(kvtier::CudaDriver::get(library), ordinal);
  if (!context.is_ok()) return context.status();
  auto current = kvtier::CurrentContext::enter(*context.value());
  if (!current.is_ok()) return current.status();
  const kvtier::GroupShape shape{.parts = 1,
                                 .layers = static_cast<std::uint32_t>(grid.run_count),
                                 .outer = 1,
                                 .tokens_per_block = 1,
                                 .bytes_per_token = static_cast<std::uint32_t>(grid.run_bytes)};
  auto layout =
      kvtier::SlotLayout::make(kvtier::LayoutKind::kLayersKvInner, shape, static_cast<std::uint32_t>(grid.block_count));
  if (!layout.is_ok()) return layout.status();
  auto stream = kvtier::CudaStream::create(context.value(), kvtier::CudaStreamPriority::kNormal);
  if (!stream.is_ok()) return stream.status();
  auto start = kvtier::CudaEvent::create(context.value(), {.timing = true});
  if (!start.is_ok()) return start.status();
  auto end = kvtier::CudaEvent::create(context.value(), {.timing = true});
  if (!end.is_ok()) return end.status();
  auto device = kvtier::DeviceMemory::allocate(context.value(), grid.run_bytes * grid.run_count * grid.block_count);
  if (!device.is_ok()) return device.status();
  std::unique_ptr<DeviceLimit> limit(new DeviceLimit(std::move(context).value(), grid, std::move(layout).value(),
                                                     std::move(stream).value(), std::move(start).value(),
                                                     std::move(end).value(), std::move(device).value()));
  if (Status status = limit->open_memory(); !status.is_ok()) return status;
  if (Status status = limit->open_copier(); !status.is_ok()) return status;
  return limit;
}

DeviceLimit::DeviceLimit(std::shared_ptr<const kvtier::CudaContext> context, const DeviceGrid& grid,
                         kvtier::SlotLayout layout, kvtier::CudaStream stream, kvtier::CudaEvent start,
                         kvtier::CudaEvent end, kvtier::DeviceMemory device)
    : context_(std::move(context)),
      grid_(grid),
      layout_(std::move(layout)),
      stream_(std::move(stream)),
      start_(std::move(start)),
      end_(std::move(end)),
      device_(std::move(device)) {}

DeviceLimit::~DeviceLimit() {
  const auto current = kvtier::CurrentContext::enter(*context_);
  static_cast<void>(stream_.synchronize());
}

Status DeviceLimit::open_memory() {
  auto buffer = kvtier::HostBuffer::allocate(whole_pages(total_bytes()), {.prefault = false});
  if (!buffer.is_ok()) return buffer.status();
  buffer_ = std::make_shared<kvtier::HostBuffer>(std::move(buffer).value());
  auto host = kvtier::PinnedMemory::make(context_, buffer_, buffer_->size(), kPageBytes,
                                         {.first_part_bytes = buffer_->size(), .part_bytes = buffer_->size()});
  if (!host.is_ok()) return host.status();
  host_ = std::move(host).value();

  for (const std::uint64_t bytes : layout_.region_bytes()) {
    regions_.push_back(device_.address() + regions_.size() * bytes);
  }
  for (std::uint32_t slot = 0; slot < grid_.block_count; ++slot) pairs_.push_back({.device = slot, .host = slot});
  if (grid_.scattered) shuffle(pairs_);
  const kvtier::CopyJob all = job(false);
  for (const kvtier::SlotPair& pair : pairs_) {
    std::uint64_t at = all.host.base + all.host.stride * pair.host;
    for (const kvtier::Fragment& fragment : layout_.fragments()) {
      runs_.push_back({.device = regions_[fragment.region] + fragment.offset + fragment.step * pair.device,
                       .host = at,
                       .width = fragment.length,
                       .rows = 1,
                       .device_pitch = fragment.length,
                       .host_pitch = fragment.length});
      at += fragment.length;
    }
  }
  return Status::ok();
}

Status DeviceLimit::open_copier() {
  auto copier = kvtier::Copier::create(context_, {});
  if (!copier.is_ok()) return copier.status();
  copier_ = std::move(copier).value();
  const auto figures = kvtier::measure_copies(*copier_);
  if (!figures.is_ok()) return figures.status();
  copier_->set_choices(kvtier::choose(figures.value()), 0);
  if (copier_->kernels() == nullptr) return Status::ok();
  auto staging = kvtier::Staging::create(context_, total_bytes());
  // One way less.
  if (staging.is_ok()) staging_ = std::move(staging).value();
  return Status::ok();
}

std::size_t DeviceLimit::total_bytes() const noexcept {
  return grid_.run_bytes * grid_.run_count * grid_.block_count;
}

kvtier::CopyJob DeviceLimit::job(bool to_device) const {
  return {.device = {&layout_, regions_},
          .host = {reinterpret_cast<std::uint64_t>(buffer_->data()), layout_.shape().block_bytes()},
          .pairs = pairs_,
          .to_device = to_device,
          .pinned = true,
          .mapped_base = host_->part_of(0).device_address};
}

Result<Elapsed> DeviceLimit::run(DeviceWay way, bool to_device, unsigned kernel_blocks) {
  const auto current = kvtier::CurrentContext::enter(*context_);
  if (!current.is_ok()) return current.status();
  if (Status status = start_.record(stream_.handle()); !status.is_ok()) return status;
  const double before = thread_cpu_seconds();
  if (Status status = enqueue(way, to_device, kernel_blocks); !status.is_ok()) return status;
  const double cpu_seconds = thread_cpu_seconds() - before;
  if (Status status = end_.record(stream_.handle()); !status.is_ok()) return status;
  if (Status status = end_.synchronize(); !status.is_ok()) return status;
  const auto seconds = measured_seconds();
  if (!seconds.is_ok()) return seconds.status();
  return Elapsed{.wall_seconds = seconds.value(), .cpu_seconds = cpu_seconds};
}

Result<double> DeviceLimit::measured_seconds() const {
  float milliseconds = 0;
  const kvtier::cuda::Functions& functions = context_->functions();
  const auto error = functions.event_elapsed_time(&milliseconds, start_.handle(), end_.handle());
  if (error != kvtier::cuda::Error::kSuccess) return kvtier::cuda::to_status(functions, error, "cuEventElapsedTime");
  return static_cast<double>(milliseconds) / 1e3;
}

Status DeviceLimit::enqueue(DeviceWay way, bool to_device, unsigned kernel_blocks) {
  const kvtier::cuda::Functions& functions = context_->functions();
  const kvtier::CopyJob copy = job(to_device);
  switch (way) {
    case DeviceWay::kPlain:
      return kvtier::cuda::to_status(
          functions,
          kvtier::copy_run(functions, to_device, device_.address(), copy.host.base, total_bytes(), stream_.handle()),
          "a plain copy");
    case DeviceWay::kLoop:
      return kvtier::copy_single(functions, runs_, to_device, stream_.handle());
    case DeviceWay::kBatchStream:
      return enqueue_batch(to_device, kvtier::cuda::SourceAccessOrder::kStream);
    case DeviceWay::kBatchAny:
      return enqueue_batch(to_device, kvtier::cuda::SourceAccessOrder::kAny);
    case DeviceWay::kCoalesced:
      return copier_->enqueue_by(kvtier::CopyStrategy::kSingle, copy, stream_.handle());
    case DeviceWay::kRectangle:
      return copier_->enqueue_by(kvtier::CopyStrategy::kRectangle, copy, stream_.handle());
    case DeviceWay::kStaged:
      return enqueue_staged(to_device, kernel_blocks);
    case DeviceWay::kKernel:
      return enqueue_kernel(to_device, kernel_blocks);
    case DeviceWay::kChosen:
      return copier_->enqueue(copy, stream_.handle());
  }
  KVTIER_CHECK(false);
}

Status DeviceLimit::enqueue_batch(bool to_device, kvtier::cuda::SourceAccessOrder order) {
  const kvtier::cuda::Functions& functions = context_->functions();
  if (!kvtier::has_batch_copies(functions)) return unsupported("the driver has no batch copies");
  return kvtier::copy_batch(functions, runs_, to_device, order, batch_, stream_.handle());
}

Status DeviceLimit::enqueue_kernel(bool to_device, unsigned kernel_blocks) {
  const kvtier::DeviceKernels* const kernels = copier_->kernels();
  if (kernels == nullptr) return unsupported("there are no kernels for this device");
  const kvtier::CopyJob copy = job(to_device);
  kernel_.slots.clear();
  for (const kvtier::SlotPair& pair : pairs_) kernel_.slots.push_back({.device = pair.device, .host = pair.host});
  const auto copy_slots = [kernels](const kvtier::SlotCopy& slots, unsigned blocks, kvtier::cuda::Stream stream) {
    return kernels->copy_slots(slots, blocks, stream);
  };
  return kvtier::copy_by_kernel(copy_slots, copy.device, layout_.fragments(),
                                {.base = copy.mapped_base, .stride = copy.host.stride, .offset = 0}, to_device,
                                std::max(kernel_blocks, 1U), kernel_, stream_.handle());
}

Status DeviceLimit::enqueue_staged(bool to_device, unsigned kernel_blocks) {
  if (staging_ == nullptr) return unsupported("there are no kernels for this device, or no memory to stage in");
  const kvtier::DeviceKernels* const kernels = copier_->kernels();
  const kvtier::CopyJob copy = job(to_device);
  const kvtier::StagedCopy staged{.device = copy.device,
                                  .host = copy.host,
                                  .pairs = pairs_,
                                  .range = {},
                                  .to_device = to_device,
                                  .max_pitch = 0,
                                  .kernel_blocks = std::max(kernel_blocks, 1U)};
  const auto copy_slots = [kernels](const kvtier::SlotCopy& slots, unsigned blocks, kvtier::cuda::Stream stream) {
    return kernels->copy_slots(slots, blocks, stream);
  };
  return staging_->copy(staged, copy_slots, stream_.handle());
}

Status DeviceLimit::copy_all(std::vector<unsigned char>& bytes, bool to_device) {
  const kvtier::cuda::Functions& functions = context_->functions();
  const auto error = kvtier::copy_run(functions, to_device, device_.address(),
                                      reinterpret_cast<std::uint64_t>(bytes.data()), bytes.size(), stream_.handle());
  if (error != kvtier::cuda::Error::kSuccess) return kvtier::cuda::to_status(functions, error, "a copy of all blocks");
  return stream_.synchronize();
}

// Whether each block is the same in host memory and in these bytes of device memory.
bool DeviceLimit::holds_blocks(const std::vector<unsigned char>& device) const {
  const auto* const host = reinterpret_cast<const unsigned char*>(buffer_->data());
  const std::uint64_t host_base = reinterpret_cast<std::uint64_t>(buffer_->data());
  return std::all_of(runs_.begin(), runs_.end(), [&](const kvtier::CopyRect& run) {
    return std::memcmp(host + (run.host - host_base), device.data() + (run.device - device_.address()), run.width) == 0;
  });
}

Status DeviceLimit::fill_memory() {
  std::vector<unsigned char> device(total_bytes());
  fill(device.data(), device.size(), kDeviceSeed);
  fill(reinterpret_cast<unsigned char*>(buffer_->data()), buffer_->size(), kHostSeed);
  return copy_all(device, true);
}

Result<bool> DeviceLimit::holds_copies(DeviceWay way, bool to_device) {
  std::vector<unsigned char> device(total_bytes());
  if (Status status = copy_all(device, false); !status.is_ok()) return status;
  std::vector<unsigned char> source(total_bytes());
  fill(source.data(), source.size(), to_device ? kHostSeed : kDeviceSeed);
  const void* const now = to_device ? static_cast<const void*>(buffer_->data()) : device.data();
  if (std::memcmp(now, source.data(), source.size()) != 0) return false;
  if (way != DeviceWay::kPlain) return holds_blocks(device);
  return std::memcmp(device.data(), buffer_->data(), device.size()) == 0;
}

Result<bool> DeviceLimit::is_right(DeviceWay way, bool to_device, unsigned kernel_blocks) {
  const auto current = kvtier::CurrentContext::enter(*context_);
  if (!current.is_ok()) return current.status();
  if (Status status = fill_memory(); !status.is_ok()) return status;
  if (const auto elapsed = run(way, to_device, kernel_blocks); !elapsed.is_ok()) return elapsed.status();
  return holds_copies(way, to_device);
}

}  // namespace limits
