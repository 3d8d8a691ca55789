#include "transfer/device/host_staging.h"

#include <algorithm>
#include <vector>

#include "memory/host_buffer.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kUnit = 4096;

}  // namespace

// Memory of one registration.
struct HostStaging::Pool {
  std::shared_ptr<HostBuffer> memory;
  std::unique_ptr<PinnedMemory> pinned;
  std::uint64_t buffer_bytes = 0;
  std::mutex mutex;  // guards the one below
  std::vector<std::uint32_t> spare;
};

HostStaging::HostStaging(std::shared_ptr<const CudaContext> context) noexcept : context_(std::move(context)) {}

HostStaging::~HostStaging() = default;

void HostStaging::make_room(std::uint64_t size_bytes) {
  const std::lock_guard making(making_);
  const std::uint64_t wanted = (size_bytes + kUnit - 1) / kUnit * kUnit;
  std::shared_ptr<Pool> pool;  // the former one, let go outside the lock
  {
    const std::lock_guard guard(mutex_);
    if (wanted <= size_bytes_) return;
    size_bytes_ = wanted;
    pool.swap(pool_);
  }
  pool = make_pool(wanted);
  const std::lock_guard guard(mutex_);
  pool_ = std::move(pool);
}

std::shared_ptr<HostStaging::Pool> HostStaging::make_pool(std::uint64_t size_bytes) const {
  const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(kMostBytes / size_bytes, kMostBuffers));
  if (count == 0) return nullptr;
  const std::uint64_t all = size_bytes * count;
  auto memory = HostBuffer::allocate(all, {.prefault = false});
  if (!memory.is_ok()) return nullptr;
  auto pool = std::make_shared<Pool>();
  pool->memory = std::make_shared<HostBuffer>(std::move(memory).value());
  auto pinned =
      PinnedMemory::make(context_, pool->memory, all, size_bytes, {.first_part_bytes = all, .part_bytes = all});
  if (!pinned.is_ok()) return nullptr;
  pool->pinned = std::move(pinned).value();
  pool->buffer_bytes = size_bytes;
  pool->spare.reserve(count);
  for (std::uint32_t index = count; index > 0; --index) pool->spare.push_back(index - 1);
  return pool;
}

HostStaging::Hold HostStaging::take(std::uint64_t size_bytes) {
  std::shared_ptr<Pool> pool;
  {
    const std::lock_guard guard(mutex_);
    pool = pool_;
  }
  if (pool == nullptr || size_bytes > pool->buffer_bytes) return {};
  std::uint32_t index = 0;
  {
    const std::lock_guard guard(pool->mutex);
    if (pool->spare.empty()) return {};
    index = pool->spare.back();
    pool->spare.pop_back();
  }
  return {std::move(pool), index};
}

HostStaging::Hold& HostStaging::Hold::operator=(Hold&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(index_, other.index_);
  return *this;
}

HostStaging::Hold::~Hold() {
  if (pool_ == nullptr) return;
  const std::lock_guard guard(pool_->mutex);
  pool_->spare.push_back(index_);
}

std::span<std::byte> HostStaging::Hold::bytes() const noexcept {
  return {pool_->memory->data() + pool_->buffer_bytes * index_, pool_->buffer_bytes};
}

PinnedPart HostStaging::Hold::part() const noexcept {
  return pool_->pinned->part_of(index_);
}

}  // namespace kvtier
