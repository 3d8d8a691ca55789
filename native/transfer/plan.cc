#include "transfer/plan.h"

#include <algorithm>
#include <numeric>

#include "core/check.h"

namespace kvtier {
namespace {

std::uint32_t slab_slot_of(const Move& move, bool reads_disk) noexcept {
  return reads_disk ? move.source : move.target;
}

void plan_copies(std::uint64_t block_bytes, std::uint64_t copy_bytes, Plan& plan) {
  const auto total = static_cast<std::uint32_t>(plan.order.size());
  const auto group =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(copy_bytes / block_bytes, 1, std::max(total, 1u)));
  plan.ops.reserve((total + group - 1) / group);
  for (std::uint32_t first = 0; first < total; first += group) {
    const std::uint32_t count = std::min(group, total - first);
    plan.ops.push_back({first, count, block_bytes * count});
  }
}

// Cuts plan.order, sorted by slab slot, into runs.
void cut_runs(std::uint64_t stride, bool reads_disk, std::span<const Move> moves, Plan& plan) {
  const std::uint32_t limit = run_blocks(stride);
  const auto total = static_cast<std::uint32_t>(plan.order.size());
  for (std::uint32_t first = 0; first < total;) {
    std::uint32_t count = 1;
    std::uint32_t slot = slab_slot_of(moves[plan.order[first]], reads_disk);
    while (count < limit && first + count < total &&
           slab_slot_of(moves[plan.order[first + count]], reads_disk) == slot + 1) {
      ++slot;
      ++count;
    }
    plan.ops.push_back({first, count, stride * count});
    first += count;
  }
}

// Puts the runs into the order of their earliest block, and plan.order with them.
void order_runs(Plan& plan) {
  std::vector<std::uint32_t> earliest(plan.ops.size());
  for (std::size_t i = 0; i < plan.ops.size(); ++i) {
    const auto begin = plan.order.begin() + plan.ops[i].first;
    earliest[i] = *std::min_element(begin, begin + plan.ops[i].count);
  }
  if (std::is_sorted(earliest.begin(), earliest.end())) return;

  std::vector<std::uint32_t> sequence(plan.ops.size());
  std::iota(sequence.begin(), sequence.end(), 0u);
  std::sort(sequence.begin(), sequence.end(),
            [&](std::uint32_t a, std::uint32_t b) { return earliest[a] < earliest[b]; });
  Plan ordered;
  ordered.order.reserve(plan.order.size());
  ordered.ops.reserve(plan.ops.size());
  for (const std::uint32_t index : sequence) {
    PlannedOp op = plan.ops[index];
    const auto begin = plan.order.begin() + op.first;
    op.first = static_cast<std::uint32_t>(ordered.order.size());
    ordered.order.insert(ordered.order.end(), begin, begin + op.count);
    ordered.ops.push_back(op);
  }
  plan = std::move(ordered);
}

}  // namespace

Plan plan_transfer(TransferPath path, std::uint64_t block_bytes, std::uint64_t stride, std::span<const Move> moves,
                   std::uint64_t copy_bytes) {
  KVTIER_CHECK(block_bytes != 0);
  KVTIER_CHECK(block_bytes <= stride);
  const PathTraits traits = traits_of(path);
  Plan plan;
  plan.order.resize(moves.size());
  std::iota(plan.order.begin(), plan.order.end(), 0u);
  if (traits.memory_only()) {
    plan_copies(block_bytes, copy_bytes, plan);
    return plan;
  }
  const auto by_slot = [&](std::uint32_t a, std::uint32_t b) {
    return slab_slot_of(moves[a], traits.reads_disk) < slab_slot_of(moves[b], traits.reads_disk);
  };
  // Most batches are already in order: slots of a sequence are handed out in runs.
  if (!std::is_sorted(plan.order.begin(), plan.order.end(), by_slot)) {
    std::stable_sort(plan.order.begin(), plan.order.end(), by_slot);
  }
  cut_runs(stride, traits.reads_disk, moves, plan);
  order_runs(plan);
  return plan;
}

}  // namespace kvtier
