#include "transfer/device/copier.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/try_reserve.h"
#include "platform/cuda/cuda_error.h"
#include "transfer/device/strategies/batch.h"
#include "transfer/device/strategies/rectangle.h"
#include "transfer/device/strategies/single.h"
#include "transfer/device/strategies/staged.h"

namespace kvtier {
namespace {

// Rectangles are made for so many at a time, so that the memory for them does not grow with a job.
constexpr std::size_t kRectsAtOnce = 16'384;

constexpr std::size_t kFollowerLimit = 4;

// What follows a strategy that cannot do a job, best first; kSingle can do every job and ends each list.
constexpr std::array<std::array<CopyStrategy, kFollowerLimit>, kCopyStrategyCount> followers() {
  using enum CopyStrategy;
  std::array<std::array<CopyStrategy, kFollowerLimit>, kCopyStrategyCount> all{};
  const auto of = [&all](CopyStrategy strategy) -> auto& {
    return all[static_cast<std::size_t>(strategy)];
  };
  of(kSingle) = {kSingle};
  of(kRectangle) = {kBatch, kSingle};
  of(kBatch) = {kRectangle, kSingle};
  of(kKernel) = {kStaged, kBatch, kRectangle, kSingle};
  of(kStaged) = {kBatch, kRectangle, kSingle};
  return all;
}
constexpr auto kFollowers = followers();

constexpr std::uint32_t kAlwaysAllowed = ~bit_of(CopyStrategy::kSingle);

}  // namespace

// Why a strategy cannot be used, here or for a job.
enum class Copier::Obstacle : std::uint8_t {
  kNone,
  kForbidden,
  kNoBatchCopies,
  kNoKernels,
  kNoStaging,
  kNotPinned,
  kNotMapped,
  kDefaultStream,
  kTooLargeForStaging,
  kNoPitch,
};

struct Copier::Lane {
  std::vector<SlotPair> sorted;
  std::vector<CopyRect> rects;
  BatchScratch batch;
  KernelScratch kernel;
  std::unique_ptr<Staging> staging;  // null: none
  Status no_staging;                 // why
};

struct Copier::Planned {
  const CopyJob& job;
  Lane& lane;
  FragmentRange range;
  BlockSlice slice;
  CopySize size;
  // As they are when the job comes.
  CopyStrategy chosen;
  std::uint32_t forbidden;
};

Copier::Copier(std::shared_ptr<const CudaContext> context, const CopierOptions& options)
    : context_(std::move(context)),
      kernel_blocks_(std::max(options.kernel_blocks, 1U)),
      choices_(options.choices),
      forbidden_(options.forbidden & kAlwaysAllowed) {}

Copier::~Copier() = default;

Result<std::unique_ptr<Copier>> Copier::create_with(std::shared_ptr<const CudaContext> context,
                                                    const CopierOptions& options, Result<CopySlots> copy_slots) {
  std::unique_ptr<Copier> copier(new Copier(std::move(context), options));
  if (Status status = copier->prepare(options, std::move(copy_slots)); !status.is_ok()) return status;
  return copier;
}

Status Copier::prepare(const CopierOptions& options, Result<CopySlots>&& copy_slots) {
  const cuda::Functions& functions = context_->functions();
  int max_pitch = 0;
  if (const cuda::Error error =
          functions.device_get_attribute(&max_pitch, cuda::DeviceAttribute::kMaxPitch, context_->device().handle);
      error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuDeviceGetAttribute of the largest pitch");
  }
  max_pitch_ = static_cast<std::uint64_t>(std::max(max_pitch, 0));
  if (copy_slots.is_ok()) {
    copy_slots_ = std::move(copy_slots).value();
  } else {
    no_kernels_ = copy_slots.status();
  }
  const bool stages = copy_slots_ && options.staging_bytes > 0 && (forbidden_ & bit_of(CopyStrategy::kStaged)) == 0;
  for (std::unique_ptr<Lane>& lane : lanes_) {
    lane = std::make_unique<Lane>();
    lane->rects.reserve(kRectsAtOnce);
    lane->no_staging = Status(Code::kUnsupported, "the copier was made without staging memory");
    if (!stages) continue;
    Result<std::unique_ptr<Staging>> staging = Staging::create(context_, options.staging_bytes);
    if (staging.is_ok()) {
      lane->staging = std::move(staging).value();
    } else if (staging.status().code() == Code::kDeviceLost) {
      return staging.status();
    } else {
      lane->no_staging = staging.status();
    }
  }
  return Status::ok();
}

void Copier::set_choices(const CopyChoices& choices, std::uint32_t forbidden) noexcept {
  const std::lock_guard lock(mutex_);
  choices_ = choices;
  forbidden_ = forbidden & kAlwaysAllowed;
}

Status Copier::enqueue(const CopyJob& job, cuda::Stream stream) {
  const Result<Planned> planned = plan(job);
  if (!planned.is_ok()) return planned.status();
  CopyStrategy strategy = job.pinned ? planned.value().chosen : CopyStrategy::kSingle;
  const auto& following = kFollowers[static_cast<std::size_t>(strategy)];
  for (auto next = following.begin();; strategy = *next++) {
    const CopySize& size = planned.value().size;
    const bool is_worth_it = strategy != CopyStrategy::kRectangle || size.runs >= 2 * size.rects;
    if (!is_worth_it || obstacle_for(strategy, planned.value(), stream) != Obstacle::kNone) continue;
    Status status = run(strategy, planned.value(), stream);
    // What is queued of it may stay: the next one writes the same bytes to the same places, after it.
    if (status.code() != Code::kUnsupported || strategy == CopyStrategy::kSingle) return status;
  }
}

Status Copier::enqueue_by(CopyStrategy strategy, const CopyJob& job, cuda::Stream stream) {
  const Result<Planned> planned = plan(job);
  if (!planned.is_ok()) return planned.status();
  if (const Obstacle obstacle = obstacle_for(strategy, planned.value(), stream); obstacle != Obstacle::kNone) {
    return explain(strategy, job.to_device, obstacle);
  }
  return run(strategy, planned.value(), stream);
}

Status Copier::can_use(CopyStrategy strategy, bool to_device) const {
  std::uint32_t forbidden = 0;
  {
    const std::lock_guard lock(mutex_);
    forbidden = forbidden_;
  }
  return explain(strategy, to_device, obstacle_here(strategy, to_device, forbidden));
}

Result<Copier::Planned> Copier::plan(const CopyJob& job) {
  KVTIER_CHECK(job.device.layout != nullptr);
  Lane& lane = *lanes_[job.to_device ? 1 : 0];
  if (Status status = sort_pairs(job.pairs, lane.sorted); !status.is_ok()) return status;
  const FragmentRange range{job.first_fragment, job.fragment_count};
  Planned planned{.job = job,
                  .lane = lane,
                  .range = range,
                  .slice = slice_of(*job.device.layout, range),
                  .size = count_copy(job.device, job.host, lane.sorted, range),
                  .chosen = CopyStrategy::kSingle,
                  .forbidden = 0};
  const std::uint64_t run_bytes = planned.size.runs == 0 ? 0 : planned.size.bytes / planned.size.runs;
  const std::lock_guard lock(mutex_);
  planned.chosen = choices_.at(job.to_device, run_bytes, planned.size.runs);
  planned.forbidden = forbidden_;
  return planned;
}

Copier::Obstacle Copier::obstacle_here(CopyStrategy strategy, bool to_device, std::uint32_t forbidden) const noexcept {
  if ((forbidden & bit_of(strategy)) != 0) return Obstacle::kForbidden;
  switch (strategy) {
    case CopyStrategy::kSingle:
      return Obstacle::kNone;
    case CopyStrategy::kRectangle:
      return max_pitch_ > 0 ? Obstacle::kNone : Obstacle::kNoPitch;
    case CopyStrategy::kBatch:
      return has_batch_copies(context_->functions()) ? Obstacle::kNone : Obstacle::kNoBatchCopies;
    case CopyStrategy::kKernel:
      return copy_slots_ ? Obstacle::kNone : Obstacle::kNoKernels;
    case CopyStrategy::kStaged:
      if (!copy_slots_) return Obstacle::kNoKernels;
      return lanes_[to_device ? 1 : 0]->staging ? Obstacle::kNone : Obstacle::kNoStaging;
  }
  KVTIER_CHECK(false);
}

Copier::Obstacle Copier::obstacle_for(CopyStrategy strategy, const Planned& planned,
                                      cuda::Stream stream) const noexcept {
  const CopyJob& job = planned.job;
  const Obstacle here = obstacle_here(strategy, job.to_device, planned.forbidden);
  if (here != Obstacle::kNone || strategy == CopyStrategy::kSingle) return here;
  if (!job.pinned) return Obstacle::kNotPinned;
  switch (strategy) {
    case CopyStrategy::kSingle:
    case CopyStrategy::kRectangle:
      return Obstacle::kNone;
    case CopyStrategy::kBatch:
      return takes_batches(stream) ? Obstacle::kNone : Obstacle::kDefaultStream;
    case CopyStrategy::kKernel:
      return job.mapped_base != 0 ? Obstacle::kNone : Obstacle::kNotMapped;
    case CopyStrategy::kStaged:
      return planned.lane.staging->takes(planned.slice) ? Obstacle::kNone : Obstacle::kTooLargeForStaging;
  }
  KVTIER_CHECK(false);
}

Status Copier::explain(CopyStrategy strategy, bool to_device, Obstacle obstacle) const {
  const auto unsupported = [strategy](const std::string& why) {
    return Status(Code::kUnsupported, "copies by strategy '" + std::string(name_of(strategy)) + "': " + why);
  };
  switch (obstacle) {
    case Obstacle::kNone:
      return Status::ok();
    case Obstacle::kForbidden:
      return unsupported("forbidden by the options");
    case Obstacle::kNoBatchCopies:
      return unsupported("the driver has no cuMemcpyBatchAsync; CUDA 12.8 or later has it");
    case Obstacle::kNoKernels:
      return unsupported(no_kernels_.message());
    case Obstacle::kNoStaging:
      return unsupported(lanes_[to_device ? 1 : 0]->no_staging.message());
    case Obstacle::kNotPinned:
      return unsupported("the host memory is not registered with the driver");
    case Obstacle::kNotMapped:
      return unsupported("the host memory has no address on the device");
    case Obstacle::kDefaultStream:
      return unsupported("the driver takes no batch in a default stream");
    case Obstacle::kTooLargeForStaging:
      return unsupported("a run of the layout is larger than the staging memory, or that memory's state is not known");
    case Obstacle::kNoPitch:
      return unsupported("the device takes no two-dimensional copies");
  }
  KVTIER_CHECK(false);
}

Status Copier::run(CopyStrategy strategy, const Planned& planned, cuda::Stream stream) {
  if (planned.size.bytes == 0) return Status::ok();
  switch (strategy) {
    case CopyStrategy::kSingle:
    case CopyStrategy::kRectangle:
    case CopyStrategy::kBatch:
      return run_rects(strategy, planned, stream);
    case CopyStrategy::kKernel:
      return run_kernel(planned, stream);
    case CopyStrategy::kStaged:
      return run_staged(planned, stream);
  }
  KVTIER_CHECK(false);
}

Status Copier::run_rects(CopyStrategy strategy, const Planned& planned, cuda::Stream stream) {
  const CopyJob& job = planned.job;
  Lane& lane = planned.lane;
  const cuda::Functions& functions = context_->functions();
  const std::size_t blocks_at_once = std::max<std::size_t>(kRectsAtOnce / planned.slice.fragments.size(), 1);
  for (std::size_t at = 0; at < lane.sorted.size(); at += blocks_at_once) {
    const auto blocks = std::span<const SlotPair>(lane.sorted).subspan(at);
    plan_copy_rects(job.device, job.host, blocks.first(std::min(blocks_at_once, blocks.size())), planned.range,
                    lane.rects);
    Status status;
    if (strategy == CopyStrategy::kBatch) {
      status = copy_batch(functions, lane.rects, job.to_device, batch_order(job.to_device), lane.batch, stream);
    } else if (strategy == CopyStrategy::kRectangle) {
      status = copy_rectangles(functions, lane.rects, job.to_device, max_pitch_, stream);
    } else {
      status = copy_single(functions, lane.rects, job.to_device, stream);
    }
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

Status Copier::run_kernel(const Planned& planned, cuda::Stream stream) {
  const CopyJob& job = planned.job;
  KernelScratch& scratch = planned.lane.kernel;
  if (Status status = try_reserve(scratch.slots, job.pairs.size()); !status.is_ok()) return status;
  scratch.slots.clear();
  for (const SlotPair& pair : job.pairs) scratch.slots.push_back({.device = pair.device, .host = pair.host});
  const KernelHost host{.base = job.mapped_base, .stride = job.host.stride, .offset = planned.slice.offset};
  return copy_by_kernel(copy_slots_, job.device, planned.slice.fragments, host, job.to_device, kernel_blocks_, scratch,
                        stream);
}

Status Copier::run_staged(const Planned& planned, cuda::Stream stream) {
  const CopyJob& job = planned.job;
  // Its copies are two-dimensional where host slots have room between them.
  const bool may_use_pitch = (planned.forbidden & bit_of(CopyStrategy::kRectangle)) == 0;
  const StagedCopy copy{.device = job.device,
                        .host = job.host,
                        .pairs = job.pairs,
                        .range = planned.range,
                        .to_device = job.to_device,
                        .max_pitch = may_use_pitch ? max_pitch_ : 0,
                        .kernel_blocks = kernel_blocks_};
  return planned.lane.staging->copy(copy, copy_slots_, stream);
}

}  // namespace kvtier
