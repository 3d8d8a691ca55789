#include "transfer/device/queue_copies.h"

#include <algorithm>
#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

// Slots of one registered part, or of none: no copy may cross from one part into another.
struct PairGroup {
  PinnedPart part;
  std::uint64_t mapped_base = 0;
  std::vector<SlotPair> pairs;
};

std::vector<PairGroup> group_by_part(const HostSide& host, std::span<const SlotPair> pairs) {
  std::vector<PairGroup> groups;
  for (const SlotPair& pair : pairs) {
    const PinnedPart part = host.part_of(pair.host);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const PairGroup& each) {
      return each.part.index == part.index && each.part.is_registered == part.is_registered;
    });
    if (group == groups.end()) {
      const std::uint64_t mapped = part.device_address == 0 ? 0 : part.device_address - host.stride * pair.host;
      group = groups.insert(groups.end(), {part, mapped, {}});
    }
    group->pairs.push_back(pair);
  }
  return groups;
}

Status wait_for(std::span<const std::shared_ptr<const Fence>> after, const CudaStream& stream) {
  for (const std::shared_ptr<const Fence>& fence : after) {
    if (Status status = stream.wait_for(fence->event()); !status.is_ok()) return status;
  }
  return Status::ok();
}

// Where the copies end that were queued so far.
void add_mark(const std::shared_ptr<DeviceLink>& link, const CudaStream& stream, DeviceOp& op) {
  DeviceOp::Mark mark;
  mark.link = link;
  mark.stream = stream.handle();
  Result<CudaEvent> event = link->take_event();
  if (event.is_ok() && event.value().record(stream.handle()).is_ok()) mark.event = std::move(event).value();
  op.marks.push_back(std::move(mark));
}

Status queue_fragments(const QueueRequest& request, const DevicePart& part, DeviceLink& link,
                       std::span<const PairGroup> groups, std::uint32_t first, std::uint32_t count,
                       cuda::Stream stream) {
  for (const PairGroup& group : groups) {
    CopyJob job;
    job.device = {.layout = part.layout, .regions = part.regions};
    job.host = {.base = reinterpret_cast<std::uint64_t>(request.host.base) + part.host_offset,
                .stride = request.host.stride};
    job.pairs = group.pairs;
    job.first_fragment = first;
    job.fragment_count = count;
    job.to_device = request.to_device;
    job.pinned = group.part.is_registered;
    job.mapped_base = group.mapped_base == 0 ? 0 : group.mapped_base + part.host_offset;
    if (Status status = link.copier().enqueue(job, stream); !status.is_ok()) return status;
  }
  return Status::ok();
}

// A layout whose slots are one run has no layers to copy one at a time.
bool has_layers(const SlotLayout& layout) noexcept {
  return layout.fragments().size() % (std::size_t{layout.shape().parts} * layout.shape().layers) == 0;
}

Status queue_layers(const QueueRequest& request, std::size_t gpu, const DevicePart& part, DeviceLink& link,
                    std::span<const PairGroup> groups, cuda::Stream stream) {
  const GroupShape& shape = part.layout->shape();
  const auto each = static_cast<std::uint32_t>(part.layout->fragments().size() / shape.parts / shape.layers);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (std::uint32_t inner = 0; inner < shape.parts; ++inner) {
      const std::uint32_t first = (inner * shape.layers + layer) * each;
      if (Status status = queue_fragments(request, part, link, groups, first, each, stream); !status.is_ok()) {
        return status;
      }
    }
    if (Status status = request.ready->record(gpu, layer, stream); !status.is_ok()) return status;
  }
  return Status::ok();
}

Status queue_part(const QueueRequest& request, std::size_t gpu, std::span<const PairGroup> groups, DeviceOp& op) {
  const DevicePart& part = request.device.storage().device_parts()[gpu];
  const std::shared_ptr<DeviceLink>& link = request.device.links()[gpu];
  if (Status status = link->enter(); !status.is_ok()) return status;
  DeviceLink::Lane& lane = link->lane(request.to_device);
  const std::lock_guard guard(lane.mutex);
  const cuda::Stream stream = lane.stream.handle();
  // A wait that could not be queued is a copy that must not be.
  if (Status status = wait_for(request.after, lane.stream); !status.is_ok()) return status;
  const Status status = request.ready != nullptr && has_layers(*part.layout)
                            ? queue_layers(request, gpu, part, *link, groups, stream)
                            : queue_fragments(request, part, *link, groups, 0, ~std::uint32_t{0}, stream);
  add_mark(link, lane.stream, op);
  return status;
}

// The runs of a slot that are contiguous in both layouts.
struct SharedRun {
  std::uint64_t source = 0;  // address of slot 0's run
  std::uint64_t source_step = 0;
  std::uint64_t target = 0;
  std::uint64_t target_step = 0;
  std::uint64_t length = 0;
};

std::vector<SharedRun> shared_runs(const DevicePart& source, const DevicePart& target) {
  std::vector<SharedRun> runs;
  const std::span<const Fragment> from = source.layout->fragments();
  const std::span<const Fragment> to = target.layout->fragments();
  std::uint64_t from_done = 0;
  std::uint64_t to_done = 0;
  for (std::size_t i = 0, j = 0; i < from.size() && j < to.size();) {
    const std::uint64_t length = std::min(from[i].length - from_done, to[j].length - to_done);
    runs.push_back({.source = source.regions[from[i].region] + from[i].offset + from_done,
                    .source_step = from[i].step,
                    .target = target.regions[to[j].region] + to[j].offset + to_done,
                    .target_step = to[j].step,
                    .length = length});
    from_done += length;
    to_done += length;
    if (from_done == from[i].length) {
      ++i;
      from_done = 0;
    }
    if (to_done == to[j].length) {
      ++j;
      to_done = 0;
    }
  }
  return runs;
}

Status copy_run(const CudaContext& source, const CudaContext& target, std::uint64_t from, std::uint64_t to,
                std::uint64_t length, cuda::Stream stream) {
  const cuda::Functions& functions = target.functions();
  if (source.handle() == target.handle()) {
    return cuda::to_status(functions, functions.memcpy_dtod_async(to, from, length, stream), "cuMemcpyDtoDAsync");
  }
  return cuda::to_status(functions,
                         functions.memcpy_peer_async(to, target.handle(), from, source.handle(), length, stream),
                         "cuMemcpyPeerAsync");
}

Status queue_runs(const DevicePart& source, const DevicePart& target, std::span<const SlotPair> pairs,
                  cuda::Stream stream) {
  for (const SharedRun& run : shared_runs(source, target)) {
    for (const SlotPair& pair : pairs) {
      const Status status = copy_run(*source.context, *target.context, run.source + run.source_step * pair.host,
                                     run.target + run.target_step * pair.device, run.length, stream);
      if (!status.is_ok()) return status;
    }
  }
  return Status::ok();
}

}  // namespace

PinnedPart HostSide::part_of(std::uint32_t slot) const noexcept {
  if (pinned != nullptr) return pinned->part_of(slot);
  if (!whole.is_registered) return {};
  return {.index = whole.index, .is_registered = true, .device_address = whole.device_address + stride * slot};
}

Status queue_copies(const QueueRequest& request, DeviceOp& op) {
  const std::vector<PairGroup> groups = group_by_part(request.host, request.pairs);
  for (std::size_t gpu = 0; gpu < request.device.links().size(); ++gpu) {
    const Status status = queue_part(request, gpu, groups, op);
    request.device.links()[gpu]->note(status);
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

Status queue_device_copies(const SharedStorage& source, const SharedStorage& target, std::span<const SlotPair> pairs,
                           std::span<const std::shared_ptr<const Fence>> after, DeviceOp& op) {
  const std::span<const DevicePart> from = source.storage().device_parts();
  const std::span<const DevicePart> to = target.storage().device_parts();
  KVTIER_CHECK(from.size() == to.size());
  for (std::size_t gpu = 0; gpu < to.size(); ++gpu) {
    const std::shared_ptr<DeviceLink>& link = target.links()[gpu];
    if (Status status = link->enter(); !status.is_ok()) return status;
    DeviceLink::Lane& lane = link->lane(true);
    const std::lock_guard guard(lane.mutex);
    if (Status status = wait_for(after, lane.stream); !status.is_ok()) return status;
    const Status status = queue_runs(from[gpu], to[gpu], pairs, lane.stream.handle());
    add_mark(link, lane.stream, op);
    link->note(status);
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

bool are_registered(const PinnedMemory* pinned, std::span<const SlotPair> pairs) noexcept {
  return pinned != nullptr && std::all_of(pairs.begin(), pairs.end(), [&](const SlotPair& pair) {
           return pinned->part_of(pair.host).is_registered;
         });
}

}  // namespace kvtier
