#include "transfer/device/device_runner.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/pattern.h"
#include "storage/verify.h"

namespace kvtier {
namespace {

HostSide host_side(const SharedStorage& host) noexcept {
  return {.base = host.slot_in_place(0), .stride = host.info().slot_stride, .pinned = host.storage().pinned()};
}

}  // namespace

bool DeviceRunner::Context::cancelled() const noexcept {
  return batch.is_given_up();
}

// Copies through staging buffers, or through the driver's own, hold what others need until they have run: nothing that
// they wait for may be left to the GPU.
bool DeviceRunner::Context::waits_first() const {
  if (state.step != DeviceStep::kBegin || request().after.empty()) return false;
  state.step = DeviceStep::kMove;
  state.fences.assign(request().after.begin(), request().after.end());
  return !state.poll() || state.step == DeviceStep::kEnd;
}

bool DeviceRunner::run(const Batch& batch, const PlannedOp& op, Runner& reader, std::span<std::byte> staging,
                       DeviceOp& state) {
  const Context context{batch, op, reader, staging, state};
  switch (state.step) {
    case DeviceStep::kBegin:
    case DeviceStep::kMove:
      if (!context.cancelled()) begin(context);
      break;
    case DeviceStep::kCheck:
      checksum(context);
      break;
    case DeviceStep::kEnd:
      break;
  }
  return state.marks.empty() && state.fences.empty();
}

void DeviceRunner::begin(const Context& context) {
  pairs_.clear();
  moved_.clear();
  switch (context.request().path) {
    case TransferPath::kMemoryToMemory:
    case TransferPath::kMemoryToMemoryChecked:
      copy(context);
      return;
    case TransferPath::kSlabToMemory:
    case TransferPath::kSlabToMemoryVia:
      load(context);
      return;
    case TransferPath::kFillPattern:
      fill(context);
      return;
    case TransferPath::kCheckPattern:
      check_pattern(context);
      return;
    case TransferPath::kMemoryToSlab:
      store_directly(context);
      return;
    case TransferPath::kSlabCheck:
    case TransferPath::kSeal:
      break;
  }
  KVTIER_CHECK(false);  // validate() lets no storage on a device into these
}

void DeviceRunner::copy(const Context& context) {
  const TransferRequest& request = context.request();
  DeviceOp& state = context.state;
  const bool to_device = request.target->info().on_device;
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    const Move& move = context.move(i);
    pairs_.push_back(to_device ? SlotPair{.device = move.target, .host = move.source}
                               : SlotPair{.device = move.source, .host = move.target});
    moved_.push_back(i);
  }
  if (to_device && request.source->info().on_device) {
    const Status status = queue_device_copies(*request.source, *request.target, pairs_, request.after, state);
    for (Outcome& outcome : state.outcomes) outcome = make_outcome(Code::kOk, Stage::kTarget);
    state.step = DeviceStep::kEnd;
    state.queued_all = status.is_ok();
    if (!status.is_ok()) state.fail(status);
    return;
  }
  const HostSide host = host_side(to_device ? *request.source : *request.target);
  if (!are_registered(host.pinned, pairs_) && context.waits_first()) return;
  queue(context, to_device ? *request.target : *request.source, host, to_device,
        to_device ? request.ready.get() : nullptr);
  if (state.queued_all && context.batch.traits.makes_checksum) state.step = DeviceStep::kCheck;
}

void DeviceRunner::load(const Context& context) {
  const TransferRequest& request = context.request();
  DeviceOp& state = context.state;
  const HostSide via = request.via ? host_side(*request.via) : HostSide{};
  bool holds_thread = false;
  bool needs_staging = false;
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    const Move& move = context.move(i);
    const bool has_via = request.path == TransferPath::kSlabToMemoryVia && move.via != kNoSlot;
    needs_staging = needs_staging || !has_via;
    holds_thread = holds_thread || !has_via || via.pinned == nullptr || !via.pinned->part_of(move.via).is_registered;
  }
  if (holds_thread && context.waits_first()) return;
  if (load_directly(context)) return;

  const std::uint64_t stride = request.source->info().slot_stride;
  HostStaging::Hold held;
  if (needs_staging) held = request.target->links()[0]->host_staging().take(stride * context.op.count);
  const std::span<std::byte> buffer = held.is_empty() ? context.staging : held.bytes();
  const OpResult read = context.reader.run(context.batch, context.op, buffer);
  state.outcomes.assign(read.outcomes.begin(), read.outcomes.end());
  state.checksums.assign(read.checksums.begin(), read.checksums.end());
  state.message = read.message;
  state.step = DeviceStep::kEnd;
  const auto came = [&](std::uint32_t i) { return code_of(state.outcomes[i]) == Code::kOk; };
  bool queued_all = true;
  // First what stays in host slots, then what has only passed a staging buffer.
  for (const bool staged : {false, true}) {
    pairs_.clear();
    moved_.clear();
    for (std::uint32_t i = 0; i < context.op.count; ++i) {
      const Move& move = context.move(i);
      const bool has_via = request.path == TransferPath::kSlabToMemoryVia && move.via != kNoSlot;
      queued_all = queued_all && came(i);
      if (!came(i) || has_via == staged) continue;
      pairs_.push_back({.device = move.target, .host = staged ? i : move.via});
      moved_.push_back(i);
    }
    if (pairs_.empty()) continue;
    const HostSide staging{buffer.data(), stride, nullptr, held.is_empty() ? PinnedPart{} : held.part()};
    queue(context, *request.target, staged ? staging : via, true, nullptr);
    // The thread's own buffer is its next operation's.
    if (staged && held.is_empty()) state.wait();
    queued_all = queued_all && state.queued_all;
  }
  state.queued_all = queued_all;
  state.staging = std::move(held);
}

// Where that is the faster way. Bytes that pass no host memory are verified where they are, and nobody sees them
// before.
bool DeviceRunner::load_directly(const Context& context) {
  const TransferRequest& request = context.request();
  const SharedStorage& slab = *request.source;
  DeviceOp& state = context.state;
  if (!slab.info().direct_device) return false;
  payloads_.clear();
  hashed_.clear();
  std::uint32_t pieces = 0;
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    const Move& move = context.move(i);
    const std::optional<DevicePayload> payload = request.target->direct_payload(move.target);
    if (!payload || (request.path == TransferPath::kSlabToMemoryVia && move.via != kNoSlot)) return false;
    const bool follows = !payloads_.empty() && payload->offset == payloads_.back().offset + slab.info().slot_stride;
    pieces += follows ? 0U : 1U;
    payloads_.push_back(*payload);
    hashed_.push_back({payload->buffer->base() + payload->offset, seed_of(request.hashes[context.index(i)])});
  }
  const DirectLoad load = direct_load_of(context.op.count, pieces, run_blocks(slab.info().slot_stride));
  if (!slab.loads_directly(request.target->links()[0], load)) return false;
  DeviceLink& link = *request.target->links()[0];
  Status status = link.enter();
  if (status.is_ok()) status = slab.storage().read_run_to_device(context.move(0).source, payloads_);
  if (status.is_ok()) status = link.verifier()->make_checksums(slab.info().shape, hashed_, state.checksums);
  link.note(status);
  // The way over host memory may work; a device that is lost says so there, too.
  if (!status.is_ok()) return false;
  state.step = DeviceStep::kEnd;
  state.queued_all = true;
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    const std::uint32_t slot = context.move(i).source;
    if (checksum_matches(slab.storage().checksum_at(slot), state.checksums[i])) {
      state.outcomes[i] = make_outcome(Code::kOk, Stage::kTarget);
      continue;
    }
    state.outcomes[i] = miss(Code::kChecksum);
    state.queued_all = false;
    if (!state.message.empty()) continue;
    state.message = "the bytes of slot " + std::to_string(slot) + " are not those that were stored";
  }
  return true;
}

void DeviceRunner::store_directly(const Context& context) {
  if (context.waits_first()) return;
  const TransferRequest& request = context.request();
  DeviceOp& state = context.state;
  payloads_.clear();
  hashed_.clear();
  for (std::uint32_t i = 0; i < context.op.count; ++i) {
    const std::optional<DevicePayload> payload = request.source->direct_payload(context.move(i).source);
    KVTIER_CHECK(payload.has_value());
    payloads_.push_back(*payload);
    hashed_.push_back({payload->buffer->base() + payload->offset, seed_of(request.hashes[context.index(i)])});
  }
  DeviceLink& link = *request.source->links()[0];
  Status status = link.enter();
  if (status.is_ok()) status = link.verifier()->make_checksums(request.source->info().shape, hashed_, state.checksums);
  if (status.is_ok()) {
    records_.clear();
    for (std::uint32_t i = 0; i < context.op.count; ++i) {
      records_.push_back(request.records[context.index(i)]);
      records_.back().checksum = state.checksums[i];
    }
    status = request.target->storage().write_run_from_device(context.move(0).target, payloads_, records_);
  }
  link.note(status);
  for (Outcome& outcome : state.outcomes) outcome = make_outcome(Code::kOk, Stage::kTarget);
  state.step = DeviceStep::kEnd;
  if (!status.is_ok()) state.fail(status);
}

void DeviceRunner::queue(const Context& context, const SharedStorage& device, const HostSide& host, bool to_device,
                         ReadyEvents* ready) {
  DeviceOp& state = context.state;
  const QueueRequest request{.device = device,
                             .host = host,
                             .pairs = pairs_,
                             .to_device = to_device,
                             .after = context.request().after,
                             .ready = ready};
  const Status status = queue_copies(request, state);
  for (const std::uint32_t i : moved_) state.outcomes[i] = make_outcome(Code::kOk, Stage::kTarget);
  state.step = DeviceStep::kEnd;
  state.queued_all = status.is_ok();
  if (!status.is_ok()) state.fail(status);
}

void DeviceRunner::checksum(const Context& context) {
  const TransferRequest& request = context.request();
  const SlotView view = request.target->storage().view();
  for (std::uint32_t i = 0; i < context.op.count && !context.cancelled(); ++i) {
    if (code_of(context.state.outcomes[i]) != Code::kOk) continue;
    context.state.checksums[i] =
        checksum_block(view, context.move(i).target, seed_of(request.hashes[context.index(i)]));
  }
  context.state.step = DeviceStep::kEnd;
}

void DeviceRunner::fill(const Context& context) {
  if (context.waits_first()) return;
  const TransferRequest& request = context.request();
  const std::uint64_t stride = request.target->info().shape.slot_stride();
  const auto most = static_cast<std::uint32_t>(context.staging.size() / stride);
  std::byte* const base = context.staging.data();
  const SlotView view{&request.target->staging_layout(), &base};
  for (std::uint32_t first = 0; first < context.op.count && !context.cancelled(); first += most) {
    const std::uint32_t end = std::min(context.op.count, first + most);
    pairs_.clear();
    moved_.clear();
    for (std::uint32_t i = first; i < end; ++i) {
      fill_pattern(view, i - first, request.hashes[context.index(i)]);
      pairs_.push_back({.device = context.move(i).target, .host = i - first});
      moved_.push_back(i);
    }
    queue(context, *request.target, {base, stride, nullptr}, true, nullptr);
    context.state.wait();
  }
}

void DeviceRunner::check_pattern(const Context& context) {
  if (context.waits_first()) return;
  const TransferRequest& request = context.request();
  DeviceOp& state = context.state;
  const std::uint64_t stride = request.source->info().shape.slot_stride();
  const auto most = static_cast<std::uint32_t>(context.staging.size() / stride);
  std::byte* const base = context.staging.data();
  const SlotView view{&request.source->staging_layout(), &base};
  for (std::uint32_t first = 0; first < context.op.count && !context.cancelled(); first += most) {
    const std::uint32_t end = std::min(context.op.count, first + most);
    pairs_.clear();
    moved_.clear();
    for (std::uint32_t i = first; i < end; ++i) {
      pairs_.push_back({.device = context.move(i).source, .host = i - first});
      moved_.push_back(i);
    }
    queue(context, *request.source, {base, stride, nullptr}, false, nullptr);
    state.wait();
    for (std::uint32_t i = first; i < end; ++i) {
      if (code_of(state.outcomes[i]) != Code::kOk) continue;
      const bool holds = kvtier::check_pattern(view, i - first, request.hashes[context.index(i)]);
      state.outcomes[i] = holds ? make_outcome(Code::kOk, Stage::kNowhere) : miss(Code::kChecksum);
      if (holds || !state.message.empty()) continue;
      state.message = "slot " + std::to_string(context.move(i).source) + " does not hold the pattern of its hash";
    }
  }
}

}  // namespace kvtier
