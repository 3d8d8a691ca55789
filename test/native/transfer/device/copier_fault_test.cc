// Every call of the driver fails once: the copier says which, leaves nothing behind, and the next job is right.
#include "native/transfer/device/copier_world.h"

using namespace kvtier;
using namespace kvtier::test;

namespace {

constexpr GroupShape kShape{.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 2, .bytes_per_token = 32};
const Slots::Shape kLayers{.kind = LayoutKind::kLayersKvInner, .group = kShape, .padding = 32};
const std::vector<SlotPair> kPairs = {{0, 8}, {1, 9}, {2, 10}, {5, 0}, {6, 1}, {11, 4}};

// Calls that one use of the strategy makes.
std::uint64_t calls_of(const CopierWorld& world, Copier& copier, CopyStrategy strategy, const CopyJob& job,
                       cuda::Stream stream) {
  const std::uint64_t before = world.sim.calls(nullptr);
  REQUIRE(copier.enqueue_by(strategy, job, stream).is_ok());
  return world.sim.calls(nullptr) - before;
}

}  // namespace

TEST_CASE("copier: every call that fails is a status that names it, and the same job is right afterwards") {
  for (const CopyStrategy strategy : kAllStrategies) {
    for (const bool to_device : {false, true}) {
      CAPTURE(std::string(name_of(strategy)));
      CAPTURE(to_device);
      const CopierWorld world("lateness_us=0");
      Slots slots(world, kLayers);
      const auto copier = world.copier({.choices = always(strategy)});
      const CudaStream stream = world.stream();
      const CopyJob job = slots.job(kPairs, to_device);
      const std::uint64_t calls = calls_of(world, *copier, strategy, job, stream.handle());
      CHECK(calls >= 1);
      for (std::uint64_t nth = 1; nth <= calls; ++nth) {
        world.sim.fail_call(nullptr, nth, 999, 1);
        const Status failed = copier->enqueue(job, stream.handle());
        CHECK(failed.code() == Code::kIo);
        CHECK(failed.message().starts_with("cu"));
        CHECK(has(failed.message(), ": CUDA_ERROR_UNKNOWN"));
        REQUIRE(stream.synchronize().is_ok());
      }
      // Staging ends with a mark that failed, and others do its work from then on.
      REQUIRE(copier->enqueue(job, stream.handle()).is_ok());
      REQUIRE(stream.synchronize().is_ok());
      slots.expect(job);
      CHECK(slots.is_as_expected());
    }
  }
}

TEST_CASE("copier: every call that fails while it is made is a status or rules strategies out, and nothing is left") {
  std::uint64_t calls = 1;
  for (std::uint64_t nth = 0; nth <= calls; ++nth) {
    CAPTURE(nth);
    const CopierWorld world("lateness_us=0");
    Slots slots(world, kLayers);
    const CudaStream stream = world.stream();
    const std::uint64_t before = world.sim.calls(nullptr);
    // The first time nothing fails, and the calls are counted.
    if (nth > 0) world.sim.fail_call(nullptr, nth, 999, 1);
    const auto made = Copier::create_with(world.context, {.choices = always(CopyStrategy::kStaged)}, world.kernel());
    if (nth == 0) calls = world.sim.calls(nullptr) - before;
    if (!made.is_ok()) {
      CHECK(nth > 0);
      CHECK(made.status().code() == Code::kIo);
      CHECK(has(made.status().message(), "cuDeviceGetAttribute"));
      continue;
    }
    for (const bool to_device : {false, true}) {
      const CopyJob job = slots.job(kPairs, to_device);
      const Status status = made.value()->enqueue(job, stream.handle());
      CHECK_MESSAGE(status.is_ok(), status.message());
      REQUIRE(stream.synchronize().is_ok());
      slots.expect(job);
      CHECK(slots.is_as_expected());
    }
  }
  CHECK(calls >= 5);
}

TEST_CASE("copier: none is made on a device that is lost") {
  for (const char* function : {"cuDeviceGetAttribute", "cuEventCreate", "cuMemAlloc"}) {
    CAPTURE(std::string(function));
    const CopierWorld world;
    world.sim.fail_call(function, 1, 700, 1);
    CHECK(Copier::create_with(world.context, {}, world.kernel()).status().code() == Code::kDeviceLost);
  }
}

TEST_CASE("copier: a device that is lost while copies run is what the stream says, by every strategy") {
  for (const CopyStrategy strategy : kAllStrategies) {
    CAPTURE(std::string(name_of(strategy)));
    CopierWorld world;
    world.is_lost = true;
    Slots slots(world, kLayers);
    const auto copier = world.copier();
    const CudaStream stream = world.stream();
    world.sim.fail_work(nullptr, 1, 700);
    const Status queued = copier->enqueue_by(strategy, slots.job(kPairs, true), stream.handle());
    const Status ended = stream.synchronize();
    CHECK((queued.is_ok() || queued.code() == Code::kDeviceLost));
    CHECK(ended.code() == Code::kDeviceLost);
    const Status after = copier->enqueue_by(CopyStrategy::kSingle, slots.job(kPairs, true), stream.handle());
    CHECK(after.code() == Code::kDeviceLost);
  }
}
