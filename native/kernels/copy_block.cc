#include "kernels/copy_block.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "kernels/copy_avx2.h"
#include "kernels/fragment_cursor.h"
#include "platform/cpu.h"

namespace kvtier {
namespace {

// How much is hashed and then copied while it is still in the first-level cache. Measured on Zen 4 with 64 cold
// fragments of 32 KiB (ratio to memcpy of the same fragments; hashing first and copying first differ by less than the
// noise): non-temporal stores 1.00, 1.06, 1.04, 0.91 for 1, 2, 4, 8 KiB, for short chunks let the next loads overlap
// the stores; memcpy 0.47, 0.47, 0.86, 0.74, for below 4 KiB it reads the target's lines before it writes them.
constexpr std::uint64_t kStreamingChunkBytes = 2 * 1024;
constexpr std::uint64_t kCachedChunkBytes = 4 * 1024;
constexpr std::uint64_t kLineBytes = 64;

// See stores_for(). Ratio of non-temporal stores to memcpy on Zen 4: 1.4 for any batch of 32 KiB to 16 MiB when nobody
// reads the target soon; when the CPU reads it at once 0.91 for 32 KiB, 0.98 for 64 KiB, 1.05 for 128 KiB, 1.13 for 1
// MiB.
constexpr std::uint64_t kStreamingBytes = 128 * 1024;

void copy_cached(std::byte* target, const std::byte* source, std::size_t length) noexcept {
  std::memcpy(target, source, length);
}

void no_fence() noexcept {}

constexpr CopyMethod kCachedMethod{copy_cached, no_fence, kCachedChunkBytes};

// nullptr where the build or the processor has no non-temporal copy.
const StreamingCopy* streaming_copy() noexcept {
#if defined(__x86_64__)
  return cpu_features().avx2 ? &kAvx2StreamingCopy : nullptr;
#else
  return nullptr;
#endif
}

CopyMethod method_of(Stores stores) noexcept {
  switch (stores) {
    case Stores::kCached:
      return kCachedMethod;
    case Stores::kStreaming: {
      const StreamingCopy* streaming = streaming_copy();
      return streaming == nullptr ? kCachedMethod : CopyMethod{streaming->copy, streaming->fence, kStreamingChunkBytes};
    }
  }
  KVTIER_CHECK(false);
}

// A chunk that ends where a cache line of the target ends, so that only a fragment's own ends are partial lines.
std::uint64_t chunk_at(const std::byte* target, std::uint64_t run, std::uint64_t chunk_bytes) noexcept {
  return std::min(run, chunk_bytes - reinterpret_cast<std::uintptr_t>(target) % kLineBytes);
}

}  // namespace

void copy_block(const SlotView& source, std::uint32_t source_slot, const SlotView& target, std::uint32_t target_slot,
                Stores stores) noexcept {
  KVTIER_CHECK(source.layout->shape() == target.layout->shape());
  const CopyMethod method = method_of(stores);
  FragmentCursor from(source, source_slot);
  FragmentCursor to(target, target_slot);
  while (from.run() != 0) {
    const std::uint64_t length = std::min(from.run(), to.run());
    method.copy(to.at(), from.at(), length);
    from.advance(length);
    to.advance(length);
  }
  method.fence();
}

Checksum copy_block_checked(const SlotView& source, std::uint32_t source_slot, const SlotView& target,
                            std::uint32_t target_slot, Stores stores, std::uint64_t seed) noexcept {
  KVTIER_CHECK(source.layout->shape() == target.layout->shape());
  CheckedCopy copy(stores, seed, source.layout->shape().part_bytes());
  FragmentCursor from(source, source_slot);
  FragmentCursor to(target, target_slot);
  while (from.run() != 0) {
    const std::uint64_t length = std::min(from.run(), to.run());
    copy.copy(to.at(), from.at(), length);
    from.advance(length);
    to.advance(length);
  }
  return copy.finish();
}

CheckedCopy::CheckedCopy(Stores stores, std::uint64_t seed, std::uint64_t part_bytes) noexcept
    : method_(method_of(stores)), checksum_(seed, part_bytes) {}

void CheckedCopy::copy(std::byte* target, const std::byte* source, std::uint64_t length) noexcept {
  while (length != 0) {
    const std::uint64_t chunk = chunk_at(target, length, method_.chunk_bytes);
    checksum_.update(source, chunk);
    method_.copy(target, source, chunk);
    target += chunk;
    source += chunk;
    length -= chunk;
  }
}

Checksum CheckedCopy::finish() noexcept {
  method_.fence();
  return checksum_.finish();
}

Checksum checksum_block(const SlotView& source, std::uint32_t source_slot, std::uint64_t seed) noexcept {
  PayloadChecksum checksum(seed, source.layout->shape().part_bytes());
  for (FragmentCursor from(source, source_slot); from.run() != 0; from.advance(from.run())) {
    checksum.update(from.at(), from.run());
  }
  return checksum.finish();
}

Stores stores_for(std::uint64_t batch_bytes) noexcept {
  return batch_bytes >= kStreamingBytes ? Stores::kStreaming : Stores::kCached;
}

const char* streaming_variant() noexcept {
  return streaming_copy() != nullptr ? "avx2" : "memcpy";
}

}  // namespace kvtier
