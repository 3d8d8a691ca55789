#include "transfer/measure_copy.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "memory/host_buffer.h"

namespace kvtier {
namespace {

// Source and target together; larger than the caches of the machines we know.
constexpr std::uint64_t kWorkingSetBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kFewestRounds = 3;
constexpr std::uint64_t kMostRounds = 64;

// Every fragment once, in an order that the prefetcher does not know.
std::vector<std::uint32_t> scattered(std::uint64_t count) {
  std::vector<std::uint32_t> order(count);
  for (std::uint64_t i = 0; i < count; ++i) order[i] = static_cast<std::uint32_t>(i);
  std::uint64_t state = 0x9e3779b97f4a7c15;
  for (std::uint64_t i = count; i > 1; --i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i - 1], order[(state >> 33) % i]);
  }
  return order;
}

double copy_round(std::byte* target, const std::byte* source, std::uint64_t fragment_bytes,
                  const std::vector<std::uint32_t>& order) {
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < order.size(); ++i) {
    // Gathered from all over, into one run after the other, as an offload does.
    std::memcpy(target + i * fragment_bytes, source + order[i] * fragment_bytes, fragment_bytes);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(order.size() * fragment_bytes) / std::max(seconds.count(), 1e-9) / 1e9;
}

}  // namespace

Result<double> measure_copy(std::uint64_t total_bytes, std::uint64_t fragment_bytes) {
  if (fragment_bytes < kMinFragmentBytes || fragment_bytes > kMaxFragmentBytes || fragment_bytes > total_bytes ||
      total_bytes > kMaxMeasureBytes) {
    return Status(Code::kInvalidValue, "copies of " + std::to_string(fragment_bytes) + " bytes in " +
                                           std::to_string(total_bytes) + " bytes were asked for; fragments have " +
                                           std::to_string(kMinFragmentBytes) + " to " +
                                           std::to_string(kMaxFragmentBytes) + " bytes, the total at most " +
                                           std::to_string(kMaxMeasureBytes));
  }
  const std::uint64_t half = std::max(fragment_bytes, std::min(total_bytes, kWorkingSetBytes) / 2);
  const std::uint64_t count = half / fragment_bytes;
  Result<HostBuffer> source = HostBuffer::allocate(count * fragment_bytes);
  if (!source.is_ok()) return source.status();
  Result<HostBuffer> target = HostBuffer::allocate(count * fragment_bytes);
  if (!target.is_ok()) return target.status();
  std::memset(source.value().data(), 0x5a, source.value().size());

  const std::vector<std::uint32_t> order = scattered(count);
  const std::uint64_t rounds = std::clamp(total_bytes / (count * fragment_bytes), kFewestRounds, kMostRounds);
  std::vector<double> speeds;
  // The first round warms page tables and the clock, and does not count.
  copy_round(target.value().data(), source.value().data(), fragment_bytes, order);
  for (std::uint64_t i = 0; i < rounds; ++i) {
    speeds.push_back(copy_round(target.value().data(), source.value().data(), fragment_bytes, order));
  }
  const auto middle = speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2);
  std::nth_element(speeds.begin(), middle, speeds.end());
  return *middle;
}

}  // namespace kvtier
