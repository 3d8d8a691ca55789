// The staging memory of a direction is used again in order, whatever stream comes, and is given up where that order
// cannot be kept.
#include <thread>

#include "native/transfer/device/copier_world.h"

using namespace kvtier;
using namespace kvtier::test;

namespace {

constexpr GroupShape kShape{.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 2, .bytes_per_token = 32};
const Slots::Shape kLayers{.kind = LayoutKind::kLayersKvOuter, .group = kShape};
constexpr std::uint64_t kBlock = 2 * 2 * 2 * 32;

}  // namespace

TEST_CASE("staging: uses in two streams come after each other, whichever stream runs first") {
  for (const bool to_device : {false, true}) {
    CAPTURE(to_device);
    const CopierWorld world("hold=1");
    Slots slots(world, kLayers);
    // Room for a job of two blocks, so that every use has the whole of it.
    const auto copier = world.copier({.choices = always(CopyStrategy::kStaged), .staging_bytes = 2 * kBlock});
    const CudaStream first = world.stream();
    const CudaStream second = world.stream();
    const std::vector<SlotPair> pairs = {{0, 4}, {3, 6}};
    const std::vector<SlotPair> others = {{8, 1}, {9, 2}};
    const CopyJob a = slots.job(pairs, to_device);
    const CopyJob b = slots.job(others, to_device);
    REQUIRE(copier->enqueue(a, first.handle()).is_ok());
    REQUIRE(copier->enqueue(b, second.handle()).is_ok());
    // The second stream cannot begin.
    CHECK(world.sim.step(second.handle(), 1) == 0);
    CHECK(world.sim.step(first.handle(), 1) == 1);
    CHECK(world.sim.step(second.handle(), 1) == 0);
    world.sim.release();
    REQUIRE(second.synchronize().is_ok());
    slots.expect(a);
    slots.expect(b);
    CHECK(slots.is_as_expected());
  }
}

TEST_CASE("staging: the two directions have memory of their own") {
  const CopierWorld world("hold=1");
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kStaged), .staging_bytes = 2 * kBlock});
  const CudaStream down = world.stream();
  const CudaStream up = world.stream();
  const std::vector<SlotPair> from = {{0, 4}, {1, 6}};
  const std::vector<SlotPair> to = {{8, 1}, {9, 2}};
  REQUIRE(copier->enqueue(slots.job(from, false), down.handle()).is_ok());
  REQUIRE(copier->enqueue(slots.job(to, true), up.handle()).is_ok());
  // One in the middle of the other.
  (void)world.sim.step(down.handle(), 2);
  (void)world.sim.step(up.handle(), 100);
  world.sim.release();
  REQUIRE(down.synchronize().is_ok());
  REQUIRE(up.synchronize().is_ok());
  slots.expect(slots.job(from, false));
  slots.expect(slots.job(to, true));
  CHECK(slots.is_as_expected());
}

TEST_CASE("staging: a run of host slots is one copy, and padding between them stays as it is") {
  const CopierWorld world;
  Slots slots(world, {.kind = LayoutKind::kLayersKvInner, .group = kShape, .padding = 64});
  const auto copier = world.copier();
  const CudaStream stream = world.stream();
  // Host slots 3 to 6 in another order, and 9.
  const std::vector<SlotPair> pairs = {{0, 5}, {7, 3}, {2, 9}, {5, 4}, {11, 6}};
  for (const bool to_device : {false, true}) {
    const std::uint64_t before = world.sim.calls("cuMemcpy2DAsync");
    const CopyJob job = slots.job(pairs, to_device);
    REQUIRE(copier->enqueue_by(CopyStrategy::kStaged, job, stream.handle()).is_ok());
    REQUIRE(stream.synchronize().is_ok());
    CHECK(world.sim.calls("cuMemcpy2DAsync") == before + 1);
    slots.expect(job);
    CHECK(slots.is_as_expected());
  }
  CHECK(world.sim.calls("cuMemcpyDtoHAsync") == 1);
  CHECK(world.sim.calls("cuMemcpyHtoDAsync") == 1);
}

TEST_CASE("staging: where the end of a use cannot be marked it is not used again") {
  const CopierWorld world;
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kStaged)});
  const CudaStream stream = world.stream();
  const std::vector<SlotPair> pairs = {{0, 4}, {1, 6}};
  const CopyJob job = slots.job(pairs, true);
  world.sim.fail_call("cuEventRecord", 1, 999, 1);
  const Status failed = copier->enqueue(job, stream.handle());
  CHECK(failed.code() == Code::kIo);
  CHECK(has(failed.message(), "cuEventRecord"));
  CHECK(copier->enqueue_by(CopyStrategy::kStaged, job, stream.handle()).code() == Code::kUnsupported);
  const std::uint64_t launches = world.sim.calls("cuLaunchKernel");
  CHECK(copier->enqueue(job, stream.handle()).is_ok());
  CHECK(world.sim.calls("cuLaunchKernel") == launches);
  REQUIRE(stream.synchronize().is_ok());
  slots.expect(job);
  CHECK(slots.is_as_expected());
}

TEST_CASE("staging: after a copy that failed the next use still waits for what was queued of it") {
  const CopierWorld world("hold=1");
  Slots slots(world, kLayers);
  const auto copier = world.copier({.choices = always(CopyStrategy::kStaged), .staging_bytes = 2 * kBlock});
  const CudaStream first = world.stream();
  const CudaStream second = world.stream();
  const std::vector<SlotPair> pairs = {{0, 4}, {3, 6}};
  // The gather is queued, the first copy of two is not.
  world.sim.fail_call("cuMemcpyDtoHAsync", 1, 999, 1);
  const Status failed = copier->enqueue(slots.job(pairs, false), first.handle());
  CHECK(failed.code() == Code::kIo);
  CHECK(has(failed.message(), "cuMemcpyDtoHAsync of 256 bytes"));
  const std::vector<SlotPair> others = {{8, 1}, {9, 2}};
  REQUIRE(copier->enqueue(slots.job(others, false), second.handle()).is_ok());
  CHECK(world.sim.step(second.handle(), 1) == 0);
  world.sim.release();
  REQUIRE(second.synchronize().is_ok());
  slots.expect(slots.job(others, false));
  CHECK(slots.is_as_expected());
}

TEST_CASE("copier: both directions are queued at once from two threads, by every strategy") {
  const CopierWorld world("lateness_us=0");
  Slots down_slots(world, kLayers, 1);
  Slots up_slots(world, kLayers, 2);
  const auto copier = world.copier({.staging_bytes = 3 * kBlock});
  const auto work = [&](Slots& slots, bool to_device) {
    Status first;
    if (Status status = world.context->make_current(); !status.is_ok()) return status;
    auto stream = CudaStream::create(world.context, CudaStreamPriority::kNormal);
    if (!stream.is_ok()) return stream.status();
    for (unsigned round = 0; round < 20; ++round) {
      for (const CopyStrategy strategy : kAllStrategies) {
        copier->set_choices(always(strategy), 0);
        const std::vector<SlotPair> pairs = slots.some_pairs(8, round);
        const CopyJob job = slots.job(pairs, to_device);
        const Status status = copier->enqueue(job, stream.value().handle());
        if (!status.is_ok() && first.is_ok()) first = status;
        if (Status ended = stream.value().synchronize(); !ended.is_ok() && first.is_ok()) first = ended;
        slots.expect(job);
      }
    }
    return first;
  };
  Status down;
  std::thread other([&] { down = work(down_slots, false); });
  const Status up = work(up_slots, true);
  other.join();
  CHECK_MESSAGE(down.is_ok(), down.message());
  CHECK_MESSAGE(up.is_ok(), up.message());
  CHECK(down_slots.is_as_expected());
  CHECK(up_slots.is_as_expected());
}
