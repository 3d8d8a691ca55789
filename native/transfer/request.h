// What a caller asks of the engine: a batch of blocks between storages of one shape. Plain data. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/status.h"
#include "transfer/device/fence.h"
#include "transfer/device/ready_events.h"
#include "transfer/path.h"
#include "transfer/plan.h"
#include "transfer/shared_storage.h"

namespace kvtier {

// A batch may not be larger than this: its outcomes must fit one report.
inline constexpr std::uint32_t kMaxTransferBlocks = 16384;

struct TransferRequest {
  std::uint32_t ticket = 0;
  TransferPath path = TransferPath::kMemoryToMemory;
  bool onboard = false;                   // towards the GPU: goes first
  std::shared_ptr<SharedStorage> source;  // kSeal and the patterns: the one storage, as source and target
  std::shared_ptr<SharedStorage> via;     // may be null
  std::shared_ptr<SharedStorage> target;
  std::vector<Move> moves;
  std::vector<SequenceHash> hashes;  // one a move; empty for kMemoryToMemory
  // kMemoryToSlab: one a move, hash included; the checksum is the one the source keeps when the operation runs.
  std::vector<BlockRecord> records;
  // Where a GPU's memory takes part: what its copies wait for, in the GPU's own queues.
  std::vector<std::shared_ptr<const Fence>> after;
  // Towards a GPU: recorded as the blocks arrive, layer by layer. May be null.
  std::shared_ptr<ReadyEvents> ready;

  // Whether blocks come from or go to a GPU's memory.
  [[nodiscard]] bool on_device() const noexcept { return source->info().on_device || target->info().on_device; }
};

// Whether the storages can do the path and every slot exists, none is written twice and none is both read and written.
// Fails: kLayoutMismatch, kSlotOutOfRange, kSlotRepeated, kInvalidValue.
[[nodiscard]] Status validate(const TransferRequest& request);

}  // namespace kvtier
