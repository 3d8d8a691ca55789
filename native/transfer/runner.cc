#include "transfer/runner.h"

#include <cstring>

#include "core/check.h"
#include "kernels/pattern.h"
#include "storage/verify.h"

namespace kvtier {
namespace {

std::byte* staging_slot(std::span<std::byte> staging, std::uint64_t stride, std::uint32_t i) noexcept {
  KVTIER_CHECK(stride * (std::uint64_t{i} + 1) <= staging.size());
  return staging.data() + stride * i;
}

// The one slot whose bytes begin at `address`, in the contiguous layout of a persistent storage's shape.
struct LandedSlot {
  std::byte* region;
  SlotView view;
  LandedSlot(const SharedStorage& slab, std::byte* address) noexcept
      : region(address), view{&slab.staging_layout(), &region} {}
  LandedSlot(const LandedSlot&) = delete;
  LandedSlot& operator=(const LandedSlot&) = delete;
};

}  // namespace

OpResult Runner::run(const Batch& batch, const PlannedOp& op, std::span<std::byte> staging) noexcept {
  // What stays so was cancelled, and its outcome is no longer asked for.
  outcomes_.assign(op.count, miss(Code::kAborted));
  checksums_.resize(op.count);
  message_.clear();
  const Context context{batch, op, staging};
  switch (batch.request.path) {
    case TransferPath::kMemoryToMemory:
    case TransferPath::kMemoryToMemoryChecked:
      copy(context);
      break;
    case TransferPath::kMemoryToSlab:
      write(context);
      break;
    case TransferPath::kSlabToMemory:
    case TransferPath::kSlabToMemoryVia:
    case TransferPath::kSlabCheck:
      load(context);
      break;
    case TransferPath::kSeal:
      seal(context);
      break;
    case TransferPath::kFillPattern:
      fill(context);
      break;
    case TransferPath::kCheckPattern:
      check(context);
      break;
  }
  return {outcomes_, checksums_, message_};
}

void Runner::copy(const Context& context) noexcept {
  const TransferRequest& request = context.batch.request;
  const SlotView source = request.source->storage().view();
  const SlotView target = request.target->storage().view();
  const bool checked = request.path == TransferPath::kMemoryToMemoryChecked;
  for (std::uint32_t i = 0; i < context.op.count && !context.cancelled(); ++i) {
    const Move& move = context.move(i);
    if (checked) {
      checksums_[i] =
          copy_block_checked(source, move.source, target, move.target, context.batch.stores, context.seed(i));
    } else {
      copy_block(source, move.source, target, move.target, context.batch.stores);
    }
    outcomes_[i] = make_outcome(Code::kOk, Stage::kTarget);
  }
}

void Runner::seal(const Context& context) noexcept {
  const SlotView view = context.batch.request.target->storage().view();
  for (std::uint32_t i = 0; i < context.op.count && !context.cancelled(); ++i) {
    checksums_[i] = checksum_block(view, context.move(i).target, context.seed(i));
    outcomes_[i] = make_outcome(Code::kOk, Stage::kTarget);
  }
}

void Runner::fill(const Context& context) noexcept {
  const TransferRequest& request = context.batch.request;
  const SlotView view = request.target->storage().view();
  for (std::uint32_t i = 0; i < context.op.count && !context.cancelled(); ++i) {
    fill_pattern(view, context.move(i).target, request.hashes[context.index(i)]);
    outcomes_[i] = make_outcome(Code::kOk, Stage::kTarget);
  }
}

void Runner::check(const Context& context) noexcept {
  const TransferRequest& request = context.batch.request;
  const SlotView view = request.source->storage().view();
  for (std::uint32_t i = 0; i < context.op.count && !context.cancelled(); ++i) {
    const std::uint32_t slot = context.move(i).source;
    if (check_pattern(view, slot, request.hashes[context.index(i)])) {
      outcomes_[i] = make_outcome(Code::kOk, Stage::kNowhere);
    } else {
      fail(i, 1, Code::kChecksum, "slot " + std::to_string(slot) + " does not hold the pattern of its hash");
    }
  }
}

void Runner::write(const Context& context) noexcept {
  const TransferRequest& request = context.batch.request;
  const SharedStorage& source = *request.source;
  const SharedStorage& slab = *request.target;
  const std::uint64_t stride = slab.info().slot_stride;
  const std::uint64_t block_bytes = slab.info().shape.block_bytes();
  payloads_.resize(context.op.count);
  records_.resize(context.op.count);
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    if (context.cancelled()) return;
    const Move& move = context.move(i);
    records_[i] = request.records[context.index(i)];
    records_[i].checksum = source.storage().checksum_at(move.source);
    payloads_[i] = source.slot_in_place(move.source);
    if (payloads_[i] != nullptr) continue;
    std::byte* staged = staging_slot(context.staging, stride, i);
    const LandedSlot landed(slab, staged);
    copy_block(source.storage().view(), move.source, landed.view, 0, Stores::kCached);
    // What another block left behind the payload does not go to disk.
    std::memset(staged + block_bytes, 0, stride - block_bytes);
    payloads_[i] = staged;
  }
  const Status status = slab.storage().write_run(context.move(0).target, payloads_, records_);
  if (!status.is_ok()) {
    fail(0, context.op.count, status.code(), status.message());
    return;
  }
  outcomes_.assign(context.op.count, make_outcome(Code::kOk, Stage::kTarget));
}

void Runner::load(const Context& context) noexcept {
  const TransferRequest& request = context.batch.request;
  const SharedStorage& slab = *request.source;
  const std::uint64_t stride = slab.info().slot_stride;
  landing_.resize(context.op.count);
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    const Move& move = context.move(i);
    std::byte* place = nullptr;
    if (request.path == TransferPath::kSlabToMemory) place = request.target->slot_in_place(move.target);
    if (request.path == TransferPath::kSlabToMemoryVia && move.via != kNoSlot) {
      place = request.via->slot_in_place(move.via);
    }
    landing_[i] = place != nullptr ? place : staging_slot(context.staging, stride, i);
  }
  if (context.cancelled()) return;
  const std::span<std::byte* const> landing(landing_);
  const std::uint32_t first_slot = context.move(0).source;
  const Status status = slab.storage().read_run(first_slot, landing);
  if (status.is_ok()) {
    verify(context, 0, context.op.count);
    return;
  }
  if (context.op.count == 1) {
    fail(0, 1, status.code(), status.message());
    return;
  }
  // One bad sector must cost one block, not the run.
  for (std::uint32_t i = 0; i < context.op.count && !context.cancelled(); ++i) {
    const Status alone = slab.storage().read_run(first_slot + i, landing.subspan(i, 1));
    if (alone.is_ok()) {
      verify(context, i, 1);
    } else {
      fail(i, 1, alone.code(), alone.message());
    }
  }
}

void Runner::verify(const Context& context, std::uint32_t first, std::uint32_t count) noexcept {
  for (std::uint32_t i = first; i < first + count && !context.cancelled(); ++i) verify_one(context, i);
}

void Runner::verify_one(const Context& context, std::uint32_t i) noexcept {
  const TransferRequest& request = context.batch.request;
  const SharedStorage& slab = *request.source;
  const Move& move = context.move(i);
  const LandedSlot landed(slab, landing_[i]);
  const bool keeps_nothing = request.path == TransferPath::kSlabCheck;
  const bool copied_later = request.target->info().on_device;
  if (keeps_nothing || copied_later || landing_[i] == request.target->slot_in_place(move.target)) {
    checksums_[i] = checksum_block(landed.view, 0, context.seed(i));
  } else {
    checksums_[i] = copy_block_checked(landed.view, 0, request.target->storage().view(), move.target,
                                       context.batch.stores, context.seed(i));
  }
  if (!checksum_matches(slab.storage().checksum_at(move.source), checksums_[i])) {
    fail(i, 1, Code::kChecksum, "the bytes of slot " + std::to_string(move.source) + " are not those that were stored");
    return;
  }
  outcomes_[i] = make_outcome(Code::kOk, keeps_nothing ? Stage::kNowhere : Stage::kTarget);
}

void Runner::fail(std::uint32_t first, std::uint32_t count, Code code, const std::string& message) noexcept {
  for (std::uint32_t i = first; i < first + count; ++i) outcomes_[i] = miss(code);
  if (message_.empty()) message_ = message;
}

}  // namespace kvtier
