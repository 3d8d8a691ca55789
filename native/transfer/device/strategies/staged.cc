#include "transfer/device/strategies/staged.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/try_reserve.h"
#include "platform/cuda/cuda_error.h"
#include "transfer/device/strategies/rectangle.h"

namespace kvtier {
namespace {

// Blocks in the buffer begin where a kernel can move its widest words.
constexpr std::uint64_t kAlignment = 16;

std::uint64_t pitch_of(std::uint64_t bytes) noexcept {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool is_before(const SlotPair& a, const SlotPair& b) noexcept {
  return a.host != b.host ? a.host < b.host : a.device < b.device;
}

}  // namespace

// What is in the buffer at one time: a range of fragments of some blocks, block after block.
struct Staging::Chunk {
  BlockSlice slice;
  std::span<const SlotPair> pairs;
  std::uint64_t pitch = 0;
};

Result<std::unique_ptr<Staging>> Staging::create(std::shared_ptr<const CudaContext> context, std::uint64_t size_bytes) {
  Result<CudaEvent> used = CudaEvent::create(context);
  if (!used.is_ok()) return used.status();
  Result<DeviceMemory> memory = DeviceMemory::allocate(std::move(context), size_bytes);
  if (!memory.is_ok()) return memory.status();
  return std::unique_ptr<Staging>(new Staging(std::move(memory).value(), std::move(used).value()));
}

bool Staging::takes(const BlockSlice& slice) const noexcept {
  return !is_lost_ && std::all_of(slice.fragments.begin(), slice.fragments.end(), [this](const Fragment& fragment) {
    return pitch_of(fragment.length) <= memory_.size_bytes();
  });
}

Status Staging::copy(const StagedCopy& copy, const CopySlots& copy_slots, cuda::Stream stream) {
  const cuda::Functions& functions = memory_.context()->functions();
  // Nothing to wait for at the first use. A comparison of streams would not do: a handle may come again.
  const cuda::Error error = functions.stream_wait_event(stream, used_.handle(), 0);
  if (error != cuda::Error::kSuccess) return cuda::to_status(functions, error, "cuStreamWaitEvent");
  Status status = copy_all(copy, copy_slots, stream);
  // Also after a failure, for a part of it may be queued.
  Status marked = used_.record(stream);
  is_lost_ = !marked.is_ok();
  return status.is_ok() ? marked : status;
}

Status Staging::copy_all(const StagedCopy& copy, const CopySlots& copy_slots, cuda::Stream stream) {
  if (Status status = try_reserve(by_host_, copy.pairs.size()); !status.is_ok()) return status;
  by_host_.assign(copy.pairs.begin(), copy.pairs.end());
  if (!std::is_sorted(by_host_.begin(), by_host_.end(), is_before)) {
    std::sort(by_host_.begin(), by_host_.end(), is_before);
  }
  const BlockSlice all = slice_of(*copy.device.layout, copy.range);
  Chunk chunk{.slice = {.fragments = {}, .offset = all.offset, .bytes = 0}, .pairs = {}, .pitch = 0};
  for (std::size_t first = 0; first < all.fragments.size();) {
    // As many fragments as there is room for; nearly always all of them.
    std::size_t end = first;
    chunk.slice.bytes = 0;
    while (end < all.fragments.size() &&
           pitch_of(chunk.slice.bytes + all.fragments[end].length) <= memory_.size_bytes()) {
      chunk.slice.bytes += all.fragments[end++].length;
    }
    KVTIER_CHECK(end > first);
    chunk.slice.fragments = all.fragments.subspan(first, end - first);
    chunk.pitch = pitch_of(chunk.slice.bytes);
    const auto room = static_cast<std::size_t>(memory_.size_bytes() / chunk.pitch);
    for (std::size_t at = 0; at < by_host_.size(); at += room) {
      chunk.pairs = std::span(by_host_).subspan(at, std::min(room, by_host_.size() - at));
      if (Status status = copy_chunk(copy, chunk, copy_slots, stream); !status.is_ok()) return status;
    }
    chunk.slice.offset += chunk.slice.bytes;
    first = end;
  }
  return Status::ok();
}

Status Staging::copy_chunk(const StagedCopy& copy, const Chunk& chunk, const CopySlots& copy_slots,
                           cuda::Stream stream) {
  if (copy.to_device) {
    if (Status status = copy_host_side(copy, chunk, stream); !status.is_ok()) return status;
  }
  if (Status status = try_reserve(kernel_.slots, chunk.pairs.size()); !status.is_ok()) return status;
  kernel_.slots.clear();
  for (const SlotPair& pair : chunk.pairs) {
    kernel_.slots.push_back({.device = pair.device, .host = static_cast<std::uint32_t>(kernel_.slots.size())});
  }
  const KernelHost buffer{.base = memory_.address(), .stride = chunk.pitch, .offset = 0};
  Status status = copy_by_kernel(copy_slots, copy.device, chunk.slice.fragments, buffer, copy.to_device,
                                 copy.kernel_blocks, kernel_, stream);
  if (!status.is_ok() || copy.to_device) return status;
  return copy_host_side(copy, chunk, stream);
}

// Between the buffer and host slots.
Status Staging::copy_host_side(const StagedCopy& copy, const Chunk& chunk, cuda::Stream stream) {
  rects_.clear();
  for (std::size_t first = 0; first < chunk.pairs.size();) {
    std::size_t end = first + 1;
    while (end < chunk.pairs.size() && chunk.pairs[end].host == chunk.pairs[end - 1].host + 1) ++end;
    rects_.push_back(joined({.device = memory_.address() + chunk.pitch * first,
                             .host = copy.host.base + copy.host.stride * chunk.pairs[first].host + chunk.slice.offset,
                             .width = chunk.slice.bytes,
                             .rows = end - first,
                             .device_pitch = chunk.pitch,
                             .host_pitch = copy.host.stride}));
    first = end;
  }
  return copy_rectangles(memory_.context()->functions(), rects_, copy.to_device, copy.max_pitch, stream);
}

}  // namespace kvtier
