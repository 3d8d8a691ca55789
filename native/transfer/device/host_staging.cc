#include "transfer/device/host_staging.h"

#include <algorithm>
#include <utility>

namespace kvtier {
namespace {

constexpr std::uint64_t kUnit = 4096;

}  // namespace

void HostStaging::make_room(std::uint64_t size_bytes) {
  const std::lock_guard making(making_);
  const std::uint64_t wanted = (size_bytes + kUnit - 1) / kUnit * kUnit;
  std::vector<std::unique_ptr<Buffer>> smaller;  // let go outside the lock
  {
    const std::lock_guard guard(mutex_);
    if (wanted <= size_bytes_) return;
    // Those that are in use now are let go when they come back.
    size_bytes_ = wanted;
    smaller.swap(spare_);
  }
  smaller.clear();
  const std::size_t count = std::min<std::uint64_t>(kMostBytes / wanted, kMostBuffers);
  for (std::size_t i = 0; i < count; ++i) {
    std::unique_ptr<Buffer> buffer = make_buffer(wanted);
    if (buffer == nullptr) return;
    const std::lock_guard guard(mutex_);
    spare_.push_back(std::move(buffer));
  }
}

std::unique_ptr<HostStaging::Buffer> HostStaging::make_buffer(std::uint64_t size_bytes) const {
  auto memory = HostBuffer::allocate(size_bytes, {.prefault = false});
  if (!memory.is_ok()) return nullptr;
  auto buffer = std::make_unique<Buffer>();
  buffer->memory = std::make_shared<HostBuffer>(std::move(memory).value());
  auto pinned = PinnedMemory::make(context_, buffer->memory, size_bytes, kUnit,
                                   {.first_part_bytes = size_bytes, .part_bytes = size_bytes});
  if (!pinned.is_ok()) return nullptr;
  buffer->pinned = std::move(pinned).value();
  return buffer;
}

HostStaging::Hold HostStaging::take(std::uint64_t size_bytes) {
  const std::lock_guard guard(mutex_);
  if (spare_.empty() || size_bytes > size_bytes_) return {};
  std::unique_ptr<Buffer> buffer = std::move(spare_.back());
  spare_.pop_back();
  return {shared_from_this(), std::move(buffer)};
}

HostStaging::Hold::Hold(std::shared_ptr<HostStaging> owner, std::unique_ptr<Buffer> buffer) noexcept
    : owner_(std::move(owner)), buffer_(std::move(buffer)) {}

HostStaging::Hold& HostStaging::Hold::operator=(Hold&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(buffer_, other.buffer_);
  return *this;
}

std::span<std::byte> HostStaging::Hold::bytes() const noexcept {
  return {buffer_->memory->data(), buffer_->memory->size()};
}

PinnedPart HostStaging::Hold::part() const noexcept {
  return buffer_->pinned->part_of(0);
}

void HostStaging::Hold::give_back() noexcept {
  if (buffer_ == nullptr) return;
  const std::shared_ptr<HostStaging> owner = std::move(owner_);
  std::unique_ptr<Buffer> buffer = std::move(buffer_);  // where it is not kept it goes after the lock
  const std::lock_guard guard(owner->mutex_);
  if (buffer->memory->size() >= owner->size_bytes_) owner->spare_.push_back(std::move(buffer));
}

}  // namespace kvtier
