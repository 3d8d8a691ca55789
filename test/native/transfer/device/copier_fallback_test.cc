// A strategy that cannot do a job is followed by one that can, and one that is forbidden is never called.
#include "native/transfer/device/copier_world.h"

using namespace kvtier;
using namespace kvtier::test;

namespace {

constexpr GroupShape kShape{.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 2, .bytes_per_token = 24};
const Slots::Shape kLayers{.kind = LayoutKind::kLayersKvInner, .group = kShape};

// Two runs of four blocks that follow each other: six rectangles of 24 runs.
const std::vector<SlotPair> kRows = {{0, 8}, {1, 9}, {2, 10}, {3, 11}, {8, 0}, {9, 1}, {10, 2}, {11, 3}};
const std::vector<SlotPair> kOne = {{3, 4}};
// Blocks of which none follows another.
const std::vector<SlotPair> kScattered = {{0, 8}, {2, 9}, {4, 10}, {6, 11}, {8, 0}, {10, 1}};

constexpr std::uint32_t kForbidKernels = bit_of(CopyStrategy::kKernel) | bit_of(CopyStrategy::kStaged);

// What a job called of the driver.
struct Calls {
  std::uint64_t singles = 0;
  std::uint64_t rectangles = 0;
  std::uint64_t batches = 0;
  std::uint64_t launches = 0;

  friend bool operator==(const Calls&, const Calls&) = default;
};

std::ostream& operator<<(std::ostream& out, const Calls& calls) {
  return out << calls.singles << " single, " << calls.rectangles << " rectangles, " << calls.batches << " batches, "
             << calls.launches << " launches";
}

Calls calls_of(const CopierWorld& world) {
  return {.singles = world.sim.calls("cuMemcpyHtoDAsync") + world.sim.calls("cuMemcpyDtoHAsync"),
          .rectangles = world.sim.calls("cuMemcpy2DAsync"),
          .batches = world.sim.calls("cuMemcpyBatchAsync"),
          .launches = world.sim.calls("cuLaunchKernel")};
}

// Queues the job, waits for it and checks all bytes.
Calls run(const CopierWorld& world, Copier& copier, Slots& slots, const CopyJob& job, cuda::Stream stream) {
  const Calls before = calls_of(world);
  const Status status = copier.enqueue(job, stream);
  CHECK_MESSAGE(status.is_ok(), status.message());
  REQUIRE(world.sim.cuda.stream_synchronize(stream) == cuda::Error::kSuccess);
  slots.expect(job);
  CHECK(slots.is_as_expected());
  const Calls after = calls_of(world);
  return {after.singles - before.singles, after.rectangles - before.rectangles, after.batches - before.batches,
          after.launches - before.launches};
}

// In both directions, which take the same way here.
Calls run(const CopierWorld& world, Copier& copier, Slots& slots, const std::vector<SlotPair>& pairs) {
  const CudaStream stream = world.stream();
  const Calls down = run(world, copier, slots, slots.job(pairs, false), stream.handle());
  const Calls up = run(world, copier, slots, slots.job(pairs, true), stream.handle());
  CHECK(down == up);
  return down;
}

}  // namespace

TEST_CASE("copier: a job takes the strategy that its runs and their size ask for") {
  const CopierWorld world;
  Slots slots(world, {.kind = LayoutKind::kLayersKvInner, .group = kShape, .slots = 80});
  const auto copier = world.copier();
  const CudaStream stream = world.stream();
  // 96 bytes a run: few go to the device one by one, many by a kernel.
  CHECK(run(world, *copier, slots, slots.job(kOne, true), stream.handle()) == Calls{.singles = 3});
  CHECK(run(world, *copier, slots, slots.job(kScattered, true), stream.handle()) == Calls{.launches = 1});
  CHECK(run(world, *copier, slots, slots.job(kScattered, false), stream.handle()) == Calls{.batches = 1});
  copier->set_choices(always(CopyStrategy::kStaged), 0);
  CHECK(run(world, *copier, slots, slots.job(kRows, false), stream.handle()) == Calls{.singles = 2, .launches = 1});
}

TEST_CASE("copier: the size of a job is that of its runs, not of its blocks") {
  const CopierWorld world;
  constexpr GroupShape kLarge{.parts = 1, .layers = 2, .outer = 1, .tokens_per_block = 16, .bytes_per_token = 2048};
  Slots slots(world, {.kind = LayoutKind::kLayersKvInner, .group = kLarge});
  CopyChoices choices = always(CopyStrategy::kSingle);
  choices.table[1][copy_size_bucket(32768)][copy_count_bucket(12)] = CopyStrategy::kBatch;
  const auto copier = world.copier({.choices = choices});
  const CudaStream stream = world.stream();
  CHECK(run(world, *copier, slots, slots.job(kScattered, true), stream.handle()) == Calls{.batches = 1});
  CHECK(run(world, *copier, slots, slots.job(kScattered, false), stream.handle()) == Calls{.singles = 12});
}

TEST_CASE("copier: each strategy that is forbidden is followed by the next, down to single copies") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const std::uint32_t no_staged = bit_of(CopyStrategy::kStaged);
  const std::uint32_t no_batch = bit_of(CopyStrategy::kBatch);
  const std::uint32_t no_rectangle = bit_of(CopyStrategy::kRectangle);
  const struct {
    CopyStrategy chosen;
    std::uint32_t forbidden;
    Calls calls;
  } cases[] = {
      {CopyStrategy::kKernel, 0, {.launches = 1}},
      {CopyStrategy::kKernel, bit_of(CopyStrategy::kKernel), {.singles = 2, .launches = 1}},
      {CopyStrategy::kKernel, kForbidKernels, {.batches = 1}},
      {CopyStrategy::kKernel, kForbidKernels | no_batch, {.rectangles = 6}},
      {CopyStrategy::kKernel, kForbidKernels | no_batch | no_rectangle, {.singles = 24}},
      {CopyStrategy::kStaged, no_staged, {.batches = 1}},
      {CopyStrategy::kStaged, no_staged | no_batch, {.rectangles = 6}},
      {CopyStrategy::kBatch, 0, {.batches = 1}},
      {CopyStrategy::kBatch, no_batch, {.rectangles = 6}},
      {CopyStrategy::kBatch, no_batch | no_rectangle, {.singles = 24}},
      {CopyStrategy::kRectangle, 0, {.rectangles = 6}},
      {CopyStrategy::kRectangle, no_rectangle, {.batches = 1}},
      {CopyStrategy::kRectangle, no_rectangle | no_batch, {.singles = 24}},
      {CopyStrategy::kSingle, ~0U, {.singles = 24}},
  };
  const auto copier = world.copier();
  for (const auto& one : cases) {
    CAPTURE(std::string(name_of(one.chosen)));
    CAPTURE(one.forbidden);
    copier->set_choices(always(one.chosen), one.forbidden);
    CHECK(run(world, *copier, slots, kRows) == one.calls);
  }
}

TEST_CASE("copier: what is forbidden from the start is not even prepared") {
  const CopierWorld world;
  const auto copier = world.copier({.forbidden = ~0U});
  CHECK(world.sim.count("allocations") == 0);
  for (const CopyStrategy strategy : kAllStrategies) {
    CAPTURE(std::string(name_of(strategy)));
    CHECK(copier->can_use(strategy, true).is_ok() == (strategy == CopyStrategy::kSingle));
  }
  CHECK(copier->can_use(CopyStrategy::kBatch, true).message() ==
        "copies by strategy 'batch': forbidden by the options");
  // Allowed later, staging still has no memory.
  copier->set_choices(CopyChoices::defaults(), 0);
  CHECK(copier->can_use(CopyStrategy::kBatch, true).is_ok());
  CHECK(has(copier->can_use(CopyStrategy::kStaged, true).message(), "made without staging memory"));
}

TEST_CASE("copier: two-dimensional copies of single rows are left to others") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kRectangle)});
  CHECK(run(world, *copier, slots, kScattered) == Calls{.batches = 1});
  copier->set_choices(always(CopyStrategy::kRectangle), bit_of(CopyStrategy::kBatch));
  CHECK(run(world, *copier, slots, kScattered) == Calls{.singles = 18});
}

TEST_CASE("copier: rectangles beyond the device's pitch are copied row by row") {
  const CopierWorld world("max_pitch=200");
  const auto copier = world.copier({.choices = always(CopyStrategy::kRectangle)});
  // The host's pitch is a block's bytes.
  Slots narrow(world, {.kind = LayoutKind::kLayersKvInner,
                       .group = {.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 1, .bytes_per_token = 50}});
  CHECK(run(world, *copier, narrow, kRows) == Calls{.rectangles = 4});
  Slots wide(world, kLayers);
  CHECK(run(world, *copier, wide, kRows) == Calls{.singles = 24});
}

TEST_CASE("copier: a device without two-dimensional copies takes others") {
  const CopierWorld world("max_pitch=0");
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kRectangle)});
  CHECK(run(world, *copier, slots, kRows) == Calls{.batches = 1});
  CHECK(copier->can_use(CopyStrategy::kRectangle, false).code() == Code::kUnsupported);
}

TEST_CASE("copier: staging uses no two-dimensional copies where they are forbidden") {
  const CopierWorld world;
  Slots slots(world, {.kind = LayoutKind::kLayersKvInner, .group = kShape, .padding = 16});
  const auto copier = world.copier({.choices = always(CopyStrategy::kStaged)});
  CHECK(run(world, *copier, slots, kRows) == Calls{.rectangles = 2, .launches = 1});
  copier->set_choices(always(CopyStrategy::kStaged), bit_of(CopyStrategy::kRectangle));
  CHECK(run(world, *copier, slots, kRows) == Calls{.singles = 8, .launches = 1});
}

TEST_CASE("copier: host memory that is not registered takes single copies alone, run by run") {
  const CopierWorld world;
  Slots slots(world, {.kind = LayoutKind::kLayersKvInner, .group = kShape, .pinned = false});
  for (const CopyStrategy strategy : kAllStrategies) {
    const auto copier = world.copier({.choices = always(strategy)});
    CHECK(run(world, *copier, slots, kRows) == Calls{.singles = 24});
    if (strategy == CopyStrategy::kSingle) continue;
    const CudaStream stream = world.stream();
    const Status status = copier->enqueue_by(strategy, slots.job(kRows, true), stream.handle());
    CHECK(status.code() == Code::kUnsupported);
    CHECK(has(status.message(), "is not registered"));
  }
}

TEST_CASE("copier: host memory that the device has no address of takes staging instead of a kernel") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kKernel)});
  const CudaStream stream = world.stream();
  CopyJob job = slots.job(kRows, true);
  job.mapped_base = 0;
  CHECK(run(world, *copier, slots, job, stream.handle()) == Calls{.singles = 2, .launches = 1});
  const Status status = copier->enqueue_by(CopyStrategy::kKernel, job, stream.handle());
  CHECK(has(status.message(), "no address on the device"));
}

TEST_CASE("copier: without kernels a batch takes their place, and the reason is told") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier_without_kernels();
  CHECK(copier->kernels() == nullptr);
  CHECK(world.sim.count("allocations") == slots.regions().size());
  for (const CopyStrategy strategy : {CopyStrategy::kKernel, CopyStrategy::kStaged}) {
    copier->set_choices(always(strategy), 0);
    CHECK(run(world, *copier, slots, kRows) == Calls{.batches = 1});
    const Status status = copier->can_use(strategy, true);
    CHECK(status.code() == Code::kUnsupported);
    CHECK(has(status.message(), "this build has no kernels"));
  }
}

TEST_CASE("copier: staging memory that cannot be had, in one direction or both, only rules staging out") {
  for (const std::uint64_t nth : {1U, 2U}) {
    const CopierWorld world;
    Slots slots(world, kLayers);
    world.sim.fail_call("cuMemAlloc", nth, 2, 1);
    const auto copier = world.copier({.choices = always(CopyStrategy::kStaged)});
    CHECK(copier->can_use(CopyStrategy::kStaged, nth == 1).is_ok());
    const Status status = copier->can_use(CopyStrategy::kStaged, nth == 2);
    CHECK(status.code() == Code::kUnsupported);
    CHECK(has(status.message(), "CUDA_ERROR_OUT_OF_MEMORY"));
    const CudaStream stream = world.stream();
    CHECK(run(world, *copier, slots, slots.job(kRows, nth == 2), stream.handle()) == Calls{.batches = 1});
    CHECK(run(world, *copier, slots, slots.job(kRows, nth == 1), stream.handle()).launches == 1);
  }
}

TEST_CASE("copier: runs that are larger than the staging memory go another way") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kStaged), .staging_bytes = 95});
  CHECK(run(world, *copier, slots, kRows) == Calls{.batches = 1});
  const CudaStream stream = world.stream();
  const Status status = copier->enqueue_by(CopyStrategy::kStaged, slots.job(kRows, true), stream.handle());
  CHECK(has(status.message(), "larger than the staging memory"));
}

TEST_CASE("copier: a driver without batch copies takes rectangles, and single copies where there are none") {
  const CopierWorld world("", 12020);
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kBatch)});
  CHECK(run(world, *copier, slots, kRows) == Calls{.rectangles = 6});
  CHECK(run(world, *copier, slots, kScattered) == Calls{.singles = 18});
  CHECK(has(copier->can_use(CopyStrategy::kBatch, true).message(), "has no cuMemcpyBatchAsync"));
}

TEST_CASE("copier: no batch is queued in the default stream") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kBatch)});
  const auto named = reinterpret_cast<cuda::Stream>(std::uintptr_t{1});
  for (const cuda::Stream stream : {cuda::kLegacyStream, named}) {
    CHECK(run(world, *copier, slots, slots.job(kRows, true), stream) == Calls{.rectangles = 6});
    const Status status = copier->enqueue_by(CopyStrategy::kBatch, slots.job(kRows, true), stream);
    CHECK(has(status.message(), "default stream"));
  }
}

TEST_CASE("copier: a strategy that the driver does not support after all is followed by the next") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kBatch)});
  world.sim.fail_call("cuMemcpyBatchAsync", 1, 801, 2);
  CHECK(run(world, *copier, slots, kRows) == Calls{.rectangles = 6, .batches = 1});
  // When a strategy is asked for, it is the answer.
  const CudaStream stream = world.stream();
  world.sim.fail_call("cuMemcpyBatchAsync", 1, 801, 1);
  const Status status = copier->enqueue_by(CopyStrategy::kBatch, slots.job(kRows, true), stream.handle());
  CHECK(status.code() == Code::kUnsupported);
  CHECK(has(status.message(), "CUDA_ERROR_NOT_SUPPORTED"));
  // No copy is left to be tried.
  copier->set_choices(always(CopyStrategy::kSingle), 0);
  world.sim.fail_call("cuMemcpyHtoDAsync", 1, 801, 1);
  CHECK(copier->enqueue(slots.job(kRows, true), stream.handle()).code() == Code::kUnsupported);
}
