#include "memory/device/pinned_memory.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "platform/cuda/cuda_error.h"
#include "platform/numa.h"

namespace kvtier {
namespace {

// A larger registration fails on some drivers.
constexpr std::uint64_t kMostPartBytes = std::uint64_t{64} << 30;
constexpr std::uint64_t kStrideUnit = 4096;
constexpr unsigned kRegisterFlags = cuda::kHostRegisterPortable | cuda::kHostRegisterDeviceMap;

Status bad_sizes(const std::string& why) {
  return Status(Code::kInvalidValue, "host memory to register: " + why);
}

}  // namespace

// How the slots are divided.
struct PinnedMemory::Parts {
  std::uint64_t slot_stride = 0;
  std::uint32_t slot_count = 0;
  std::uint32_t first_slots = 0;
  std::uint32_t part_slots = 0;
  std::uint32_t part_count = 0;

  [[nodiscard]] static Result<Parts> divide(const HostBuffer& buffer, std::uint64_t size_bytes,
                                            std::uint64_t slot_stride, const PinnedOptions& options);
};

Result<PinnedMemory::Parts> PinnedMemory::Parts::divide(const HostBuffer& buffer, std::uint64_t size_bytes,
                                                        std::uint64_t slot_stride, const PinnedOptions& options) {
  if (slot_stride == 0 || slot_stride % kStrideUnit != 0) {
    return bad_sizes("slots of " + std::to_string(slot_stride) + " bytes; a multiple of 4096 is needed");
  }
  if (size_bytes == 0 || size_bytes % slot_stride != 0 || size_bytes > buffer.size()) {
    return bad_sizes(std::to_string(size_bytes) + " bytes are no whole slots of " + std::to_string(slot_stride) +
                     " in a buffer of " + std::to_string(buffer.size()));
  }
  const std::uint64_t slots = size_bytes / slot_stride;
  if (slots > std::numeric_limits<std::uint32_t>::max()) return bad_sizes(std::to_string(slots) + " slots");

  // Parts may not share a page, which may be larger than 4 KiB: they consist of the fewest slots that fill pages.
  const auto page = static_cast<std::uint64_t>(::getpagesize());
  const std::uint64_t unit = page / std::gcd(page, slot_stride);
  const auto slots_in = [&](std::uint64_t bytes) {
    const std::uint64_t whole = std::min(bytes, kMostPartBytes) / slot_stride / unit * unit;
    return static_cast<std::uint32_t>(std::min(std::max(whole, unit), slots));
  };
  Parts parts;
  parts.slot_stride = slot_stride;
  parts.slot_count = static_cast<std::uint32_t>(slots);
  parts.first_slots = slots_in(options.first_part_bytes);
  parts.part_slots = slots_in(options.part_bytes);
  const std::uint32_t rest = parts.slot_count - parts.first_slots;
  parts.part_count = 1 + rest / parts.part_slots + (rest % parts.part_slots != 0 ? 1 : 0);
  return parts;
}

Result<std::unique_ptr<PinnedMemory>> PinnedMemory::make(std::shared_ptr<const CudaContext> context,
                                                         std::shared_ptr<HostBuffer> buffer, std::uint64_t size_bytes,
                                                         std::uint64_t slot_stride, const PinnedOptions& options) {
  const auto parts = Parts::divide(*buffer, size_bytes, slot_stride, options);
  if (!parts) return parts.status();
  buffer->keep_from_children();
  std::unique_ptr<PinnedMemory> memory(
      new PinnedMemory(std::move(context), std::move(buffer), parts.value(), options.touch_threads));
  {
    const auto current = CurrentContext::enter(*memory->context_);
    if (!current) return current.status();
    if (Status status = memory->pin(0); !status) return status;
  }
  if (memory->part_count_ == 1) {
    memory->finish(Status::ok());
    return memory;
  }
  auto thread = Thread::start("kvtier-pin", [self = memory.get()] { self->pin_the_rest(); });
  if (thread) {
    memory->thread_ = std::move(thread).value();
  } else {
    memory->finish(thread.status());
  }
  return memory;
}

PinnedMemory::PinnedMemory(std::shared_ptr<const CudaContext> context, std::shared_ptr<HostBuffer> buffer,
                           const Parts& parts, unsigned touch_threads)
    : slot_stride_(parts.slot_stride),
      slot_count_(parts.slot_count),
      first_slots_(parts.first_slots),
      part_slots_(parts.part_slots),
      part_count_(parts.part_count),
      device_addresses_(std::make_unique<std::atomic<std::uint64_t>[]>(parts.part_count)),
      context_(std::move(context)),
      buffer_(std::move(buffer)),
      cpus_(cpus_near_pci_device(context_->device().pci_address)),
      touch_threads_(touch_threads) {}

PinnedMemory::~PinnedMemory() {
  is_stopping_.store(true, std::memory_order_relaxed);
  thread_.join();
  for (std::uint32_t part = 0; part < part_count_; ++part) {
    if (device_addresses_[part].load(std::memory_order_relaxed) != 0) unpin(buffer_->data() + range_of(part).offset);
  }
}

// What failed once is tried once more. A registration that stays means the pages that it was made of, also when the
// addresses have other pages: a copy that names them would move other bytes than are there. So nothing else gets the
// addresses then, which costs no memory. On a lost device that happens as well, although the registration has gone with
// the context there.
void PinnedMemory::unpin(std::byte* address) const noexcept {
  const cuda::Functions& functions = context_->functions();
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto current = CurrentContext::enter(*context_);
    if (functions.mem_host_unregister(address) == cuda::Error::kSuccess) return;
  }
  buffer_->keep_addresses();
}

PinnedMemory::Range PinnedMemory::range_of(std::uint32_t part) const noexcept {
  const std::uint64_t first = part == 0 ? 0 : first_slots_ + std::uint64_t{part - 1} * part_slots_;
  const std::uint64_t end = std::min<std::uint64_t>(first + (part == 0 ? first_slots_ : part_slots_), slot_count_);
  return {first * slot_stride_, (end - first) * slot_stride_};
}

// A thread whose current context is context_.
Status PinnedMemory::pin(std::uint32_t part) {
  const auto [offset, length] = range_of(part);
  const TouchOptions touching{.threads = touch_threads_, .cpus = cpus_, .stop = &is_stopping_};
  if (Status status = buffer_->touch(offset, length, touching); !status) return status;
  if (is_stopping_.load(std::memory_order_relaxed)) return Status::ok();

  const cuda::Functions& functions = context_->functions();
  std::byte* const address = buffer_->data() + offset;
  const auto failed = [&](cuda::Error error, const char* function) {
    return cuda::to_status(functions, error,
                           std::string(function) + " for " + std::to_string(length) + " bytes of host memory (part " +
                               std::to_string(part + 1) + " of " + std::to_string(part_count_) + ") on device " +
                               std::to_string(context_->device().ordinal));
  };
  cuda::Error error = functions.mem_host_register(address, length, kRegisterFlags);
  if (error != cuda::Error::kSuccess) return failed(error, "cuMemHostRegister");
  cuda::DevicePtr device_address = 0;
  error = functions.mem_host_get_device_pointer(&device_address, address, 0);
  if (error != cuda::Error::kSuccess || device_address == 0) {
    unpin(address);
    return failed(error == cuda::Error::kSuccess ? cuda::Error::kUnknown : error, "cuMemHostGetDevicePointer");
  }
  registered_bytes_.fetch_add(length, std::memory_order_relaxed);
  device_addresses_[part].store(device_address, std::memory_order_release);
  return Status::ok();
}

void PinnedMemory::pin_the_rest() {
  Status first_failure = context_->make_current();
  bool goes_on = first_failure.is_ok();
  for (std::uint32_t part = 1; goes_on && part < part_count_; ++part) {
    Status status = pin(part);
    goes_on = status.code() != Code::kDeviceLost && !is_stopping_.load(std::memory_order_relaxed);
    if (first_failure.is_ok()) first_failure = std::move(status);
  }
  finish(std::move(first_failure));
}

void PinnedMemory::finish(Status first_failure) {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_finished_ = true;
  first_failure_ = std::move(first_failure);
  finished_.notify_all();
}

PinnedPart PinnedMemory::part_of(std::uint32_t slot) const noexcept {
  KVTIER_CHECK(slot < slot_count_);
  PinnedPart part;
  std::uint32_t first = 0;
  if (slot >= first_slots_) {
    const std::uint32_t after = (slot - first_slots_) / part_slots_;
    part.index = 1 + after;
    first = first_slots_ + after * part_slots_;
  }
  const std::uint64_t address = device_addresses_[part.index].load(std::memory_order_acquire);
  part.is_registered = address != 0;
  if (part.is_registered) part.device_address = address + std::uint64_t{slot - first} * slot_stride_;
  return part;
}

Status PinnedMemory::wait() const {
  std::unique_lock<std::mutex> lock(mutex_);
  finished_.wait(lock, [this] { return is_finished_; });
  return first_failure_;
}

}  // namespace kvtier
