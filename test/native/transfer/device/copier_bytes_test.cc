// Whatever the strategy, the direction, the layout and the slots: every byte of the blocks arrives at its place, and no
// other byte changes.
#include "native/transfer/device/copier_world.h"

using namespace kvtier;
using namespace kvtier::test;

namespace {

constexpr GroupShape kLayers{.parts = 1, .layers = 3, .outer = 2, .tokens_per_block = 2, .bytes_per_token = 24};
constexpr GroupShape kParts{.parts = 2, .layers = 2, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 7};
// A block that fills its slot.
constexpr GroupShape kWhole{.parts = 1, .layers = 2, .outer = 2, .tokens_per_block = 8, .bytes_per_token = 128};

const std::vector<Slots::Shape> kShapes = {
    {.kind = LayoutKind::kContiguous, .group = kLayers, .padding = 40},
    {.kind = LayoutKind::kContiguous, .group = kWhole},
    {.kind = LayoutKind::kLayersKvOuter, .group = kLayers},
    {.kind = LayoutKind::kLayersKvOuter, .group = kWhole, .padding = 4096},
    {.kind = LayoutKind::kLayersKvInner, .group = kLayers, .padding = 3},
    {.kind = LayoutKind::kLayersKvInner, .group = kParts},
};

// Runs one job and compares all memory.
void check_job(const CopierWorld& world, Copier& copier, CopyStrategy strategy, Slots& slots, const CopyJob& job) {
  CAPTURE(std::string(name_of(strategy)));
  CAPTURE(job.to_device);
  const CudaStream stream = world.stream();
  const Status status = copier.enqueue_by(strategy, job, stream.handle());
  CHECK_MESSAGE(status.is_ok(), status.message());
  REQUIRE(stream.synchronize().is_ok());
  slots.expect(job);
  CHECK(slots.is_as_expected());
}

}  // namespace

TEST_CASE("copier: every strategy moves every byte to its place, in both directions, whatever the layout") {
  for (const unsigned seed : {1U, 2U, 3U}) {
    for (std::size_t shape = 0; shape < kShapes.size(); ++shape) {
      CAPTURE(seed);
      CAPTURE(shape);
      const CopierWorld world("seed=" + std::to_string(seed) + " host_pointers=" + (seed == 2 ? "0" : "1"));
      Slots slots(world, kShapes[shape], seed);
      const auto copier = world.copier({.staging_bytes = 1 << 16});
      for (const CopyStrategy strategy : kAllStrategies) {
        for (const bool to_device : {false, true}) {
          const std::vector<SlotPair> pairs = slots.some_pairs(12, 7 * seed + (to_device ? 1 : 0));
          check_job(world, *copier, strategy, slots, slots.job(pairs, to_device));
        }
      }
    }
  }
}

TEST_CASE("copier: with the kernels that this build has, or without, every strategy that can be used is right") {
  const CopierWorld world("seed=4 host_pointers=0");
  for (const Slots::Shape& shape : kShapes) {
    Slots slots(world, shape);
    const auto copier = Copier::create(world.context, {.staging_bytes = 4096});
    REQUIRE(copier.is_ok());
    for (const CopyStrategy strategy : kAllStrategies) {
      for (const bool to_device : {false, true}) {
        const bool is_usable = copier.value()->can_use(strategy, to_device).is_ok();
        CHECK(is_usable == (copier.value()->kernels() != nullptr || !uses_kernels(strategy)));
        if (!is_usable) continue;
        const std::vector<SlotPair> pairs = slots.some_pairs(12, to_device ? 5 : 6);
        check_job(world, *copier.value(), strategy, slots, slots.job(pairs, to_device));
      }
    }
  }
}

TEST_CASE("copier: a range of fragments is copied alone, for a layer at a time") {
  const CopierWorld world;
  for (const Slots::Shape& shape : kShapes) {
    Slots slots(world, shape);
    const auto copier = world.copier();
    const std::vector<SlotPair> pairs = slots.some_pairs(10, 3);
    const auto count = static_cast<std::uint32_t>(slots.layout().fragments().size());
    for (const CopyStrategy strategy : kAllStrategies) {
      for (const bool to_device : {false, true}) {
        for (std::uint32_t first = 0; first < count; ++first) {
          CopyJob job = slots.job(pairs, to_device);
          job.first_fragment = first;
          job.fragment_count = 1 + first % 2;
          check_job(world, *copier, strategy, slots, job);
        }
      }
    }
  }
}

TEST_CASE("copier: nothing to copy is done at once") {
  const CopierWorld world;
  Slots slots(world, kShapes[0]);
  const auto copier = world.copier();
  const std::vector<SlotPair> pairs = slots.some_pairs(4, 3);
  for (const CopyStrategy strategy : kAllStrategies) {
    check_job(world, *copier, strategy, slots, slots.job({}, true));
    CopyJob job = slots.job(pairs, false);
    job.first_fragment = static_cast<std::uint32_t>(slots.layout().fragments().size());
    const CudaStream stream = world.stream();
    CHECK(copier->enqueue_by(strategy, job, stream.handle()).is_ok());
    CHECK(world.sim.pending(stream.handle()) == 0);
  }
}

TEST_CASE("copier: staging memory for two blocks moves twelve, and for two fragments moves blocks of six") {
  for (const std::uint64_t staging : {std::uint64_t{2 * 288}, std::uint64_t{100}}) {
    const CopierWorld world("seed=5");
    Slots slots(world, {.kind = LayoutKind::kLayersKvOuter, .group = kLayers, .padding = 8});
    REQUIRE(slots.layout().shape().block_bytes() == 288);
    const auto copier = world.copier({.staging_bytes = staging});
    for (const bool to_device : {false, true}) {
      const std::vector<SlotPair> pairs = slots.some_pairs(12, 9);
      check_job(world, *copier, CopyStrategy::kStaged, slots, slots.job(pairs, to_device));
    }
  }
}

TEST_CASE("copier: many blocks are planned in parts") {
  const CopierWorld world("lateness_us=0");
  constexpr GroupShape kMany{.parts = 1, .layers = 40, .outer = 2, .tokens_per_block = 1, .bytes_per_token = 4};
  Slots slots(world, {.kind = LayoutKind::kLayersKvOuter, .group = kMany, .slots = 300});
  const auto copier = world.copier();
  const std::vector<SlotPair> pairs = slots.some_pairs(300, 4);
  for (const bool to_device : {false, true}) {
    check_job(world, *copier, CopyStrategy::kBatch, slots, slots.job(pairs, to_device));
    check_job(world, *copier, CopyStrategy::kRectangle, slots, slots.job(pairs, to_device));
  }
  // No part is copied twice.
  CHECK(world.sim.count("batch_descriptors") == 2 * 300 * slots.layout().fragments().size());
}

TEST_CASE("copier: a batch is right on drivers with either form of the call") {
  for (const int version : {12080, 12090, 13000}) {
    CAPTURE(version);
    const CopierWorld world("any_order=random seed=11", version);
    Slots slots(world, {.kind = LayoutKind::kLayersKvInner, .group = kLayers});
    const auto copier = world.copier();
    for (const bool to_device : {false, true}) {
      const std::vector<SlotPair> pairs = slots.some_pairs(12, 2);
      check_job(world, *copier, CopyStrategy::kBatch, slots, slots.job(pairs, to_device));
    }
    CHECK(world.sim.calls(version < 13000 ? "cuMemcpyBatchAsync" : "cuMemcpyBatchAsync_v2") == 2);
  }
}
