// What a calibration measures, how little it may take, and what follows from its figures.
#include "transfer/device/calibrate.h"

#include "native/transfer/device/copier_world.h"

using namespace kvtier;
using namespace kvtier::test;

namespace {

constexpr unsigned kUp = 1;
constexpr unsigned kDown = 0;

void set(CopyFigures& figures, unsigned direction, unsigned size, unsigned count, CopyStrategy strategy, double speed,
         double cpu_us = 10) {
  figures.table[direction][size][count][static_cast<std::size_t>(strategy)] = {speed, cpu_us};
}

// How many cells have a figure of the strategy.
std::size_t measured(const CopyFigures& figures, unsigned direction, CopyStrategy strategy) {
  std::size_t found = 0;
  for (const auto& counts : figures.table[direction]) {
    for (const auto& cell : counts) found += cell[static_cast<std::size_t>(strategy)].is_measured() ? 1U : 0U;
  }
  return found;
}

const Status& left_out(const CopyFigures& figures, unsigned direction, CopyStrategy strategy) {
  return figures.left_out[direction][static_cast<std::size_t>(strategy)];
}

// No test depends on the time that it takes.
constexpr unsigned kNoLimit = 600'000;
// For tests that look at something else than figures.
constexpr CopyMeasureOptions kSmall{.cell_bytes = 64 << 10, .rounds = 1, .budget_ms = kNoLimit};

}  // namespace

TEST_CASE("calibration: without figures the choices are the defaults, for each direction by itself") {
  CHECK(choose(CopyFigures{}) == CopyChoices::defaults());
  CopyFigures figures;
  set(figures, kUp, 3, 3, CopyStrategy::kStaged, 1);
  const CopyChoices choices = choose(figures);
  CHECK(choices.table[kUp] == always(CopyStrategy::kStaged).table[kUp]);
  CHECK(choices.table[kDown] == CopyChoices::defaults().table[kDown]);
}

TEST_CASE("calibration: the fastest strategy is chosen") {
  CopyFigures figures;
  set(figures, kUp, 3, 4, CopyStrategy::kBatch, 10);
  set(figures, kUp, 3, 4, CopyStrategy::kKernel, 10.5);
  set(figures, kUp, 3, 4, CopyStrategy::kSingle, 9);
  CHECK(choose(figures).table[kUp][3][4] == CopyStrategy::kKernel);
}

TEST_CASE(
    "calibration: within three percent a strategy without kernels is chosen, and among equals the one of less CPU") {
  CopyFigures figures;
  set(figures, kUp, 3, 4, CopyStrategy::kKernel, 10, 1);
  set(figures, kUp, 3, 4, CopyStrategy::kStaged, 10, 1);
  set(figures, kUp, 3, 4, CopyStrategy::kBatch, 9.71, 300);
  CHECK(choose(figures).table[kUp][3][4] == CopyStrategy::kBatch);
  set(figures, kUp, 3, 4, CopyStrategy::kSingle, 9.75, 299);
  CHECK(choose(figures).table[kUp][3][4] == CopyStrategy::kSingle);
  set(figures, kUp, 3, 4, CopyStrategy::kRectangle, 9.69, 1);
  CHECK(choose(figures).table[kUp][3][4] == CopyStrategy::kSingle);
  // Beyond that kernels win, the one of less CPU.
  set(figures, kUp, 3, 4, CopyStrategy::kKernel, 10.1, 5);
  set(figures, kUp, 3, 4, CopyStrategy::kStaged, 10.2, 4);
  CHECK(choose(figures).table[kUp][3][4] == CopyStrategy::kStaged);
  set(figures, kUp, 3, 4, CopyStrategy::kStaged, 10.2, 6);
  CHECK(choose(figures).table[kUp][3][4] == CopyStrategy::kKernel);
}

TEST_CASE("calibration: a cell that was not measured follows the nearest size, and there the nearest number") {
  CopyFigures figures;
  set(figures, kUp, 2, 4, CopyStrategy::kKernel, 10);
  set(figures, kUp, 2, 4, CopyStrategy::kBatch, 5);
  set(figures, kUp, 6, 0, CopyStrategy::kKernel, 1);
  set(figures, kUp, 6, 0, CopyStrategy::kBatch, 2);
  set(figures, kUp, 6, 4, CopyStrategy::kKernel, 4);
  set(figures, kUp, 6, 4, CopyStrategy::kBatch, 2);
  const auto table = choose(figures).table[kUp];
  CHECK(table[0][8] == CopyStrategy::kKernel);
  CHECK(table[3][0] == CopyStrategy::kKernel);
  CHECK(table[4][0] == CopyStrategy::kBatch);   // as near to either size: the nearer number
  CHECK(table[4][2] == CopyStrategy::kKernel);  // as near to all three: the smallest size
  CHECK(table[5][0] == CopyStrategy::kBatch);
  CHECK(table[14][2] == CopyStrategy::kBatch);
  CHECK(table[14][3] == CopyStrategy::kKernel);
}

TEST_CASE("calibration: a strategy that was measured with fewer copies is compared by its speed there") {
  CopyFigures figures;
  set(figures, kDown, 5, 2, CopyStrategy::kSingle, 30);
  set(figures, kDown, 5, 6, CopyStrategy::kBatch, 20);
  CHECK(choose(figures).table[kDown][5][8] == CopyStrategy::kSingle);
  set(figures, kDown, 5, 6, CopyStrategy::kBatch, 40);
  CHECK(choose(figures).table[kDown][5][8] == CopyStrategy::kBatch);
}

TEST_CASE("calibration: every strategy is measured in both directions, in a bounded number of calls") {
  const CopierWorld world;
  const auto copier = world.copier();
  const std::uint64_t before = world.sim.calls(nullptr);
  const auto figures = measure_copies(*copier, {.budget_ms = kNoLimit});
  REQUIRE(figures.is_ok());
  for (const CopyStrategy strategy : kAllStrategies) {
    for (const unsigned direction : {kUp, kDown}) {
      CAPTURE(std::string(name_of(strategy)));
      CHECK(left_out(figures.value(), direction, strategy).is_ok());
      CHECK(measured(figures.value(), direction, strategy) >= 1);
    }
  }
  CHECK(world.sim.calls(nullptr) - before < 12'000);
  CHECK(world.sim.count("streams") == 0);
  CHECK(world.sim.count("registrations") == 0);
}

TEST_CASE("calibration: without a time limit every cell that fits is measured, and none that is larger") {
  const CopierWorld world("lateness_us=0");
  const auto copier = world.copier();
  const auto figures = measure_copies(*copier, {.cell_bytes = 256 << 10, .rounds = 1, .budget_ms = kNoLimit});
  REQUIRE(figures.is_ok());
  const auto& up = figures.value().table[kUp];
  const auto has_figure = [&up](unsigned size, unsigned count, CopyStrategy strategy) {
    return up[size][count][static_cast<std::size_t>(strategy)].is_measured();
  };
  CHECK(has_figure(0, 4, CopyStrategy::kBatch));   // 256 KiB in 256 runs
  CHECK(!has_figure(0, 6, CopyStrategy::kBatch));  // 4 MiB
  CHECK(has_figure(8, 0, CopyStrategy::kSingle));
  CHECK(!has_figure(10, 0, CopyStrategy::kSingle));
  // Loops of copies are measured where they are short.
  CHECK(has_figure(0, 2, CopyStrategy::kSingle));
  CHECK(!has_figure(0, 4, CopyStrategy::kSingle));
  CHECK(!has_figure(0, 0, CopyStrategy::kRectangle));
  CHECK(has_figure(0, 2, CopyStrategy::kRectangle));
}

TEST_CASE("calibration: no cell is begun when the time is over") {
  const CopierWorld world;
  const auto copier = world.copier();
  const auto figures = measure_copies(*copier, {.budget_ms = 0});
  REQUIRE(figures.is_ok());
  for (const CopyStrategy strategy : kAllStrategies) CHECK(measured(figures.value(), kUp, strategy) == 0);
  CHECK(choose(figures.value()) == CopyChoices::defaults());
}

TEST_CASE("calibration: what cannot be used is not measured, and the reason is kept") {
  const CopierWorld world("", 12020);
  const auto copier = world.copier_without_kernels({.forbidden = bit_of(CopyStrategy::kRectangle)});
  const auto figures = measure_copies(*copier, kSmall);
  REQUIRE(figures.is_ok());
  for (const unsigned direction : {kUp, kDown}) {
    CHECK(measured(figures.value(), direction, CopyStrategy::kSingle) > 0);
    CHECK(has(left_out(figures.value(), direction, CopyStrategy::kRectangle).message(), "forbidden"));
    CHECK(has(left_out(figures.value(), direction, CopyStrategy::kBatch).message(), "cuMemcpyBatchAsync"));
    CHECK(has(left_out(figures.value(), direction, CopyStrategy::kKernel).message(), "no kernels"));
  }
  CHECK(world.sim.calls("cuMemcpy2DAsync") == 0);
  CHECK(choose(figures.value()) == always(CopyStrategy::kSingle));
}

TEST_CASE("calibration: a strategy that fails is left out, also the figures that it had, and is never chosen") {
  const CopierWorld world("lateness_us=0");
  const auto copier = world.copier();
  world.sim.fail_call("cuMemcpyBatchAsync", 6, 1, 0);
  const auto figures = measure_copies(*copier, kSmall);
  REQUIRE(figures.is_ok());
  for (const unsigned direction : {kUp, kDown}) {
    CHECK(measured(figures.value(), direction, CopyStrategy::kBatch) == 0);
    CHECK(left_out(figures.value(), direction, CopyStrategy::kBatch).code() == Code::kIo);
    CHECK(measured(figures.value(), direction, CopyStrategy::kKernel) > 0);
    const CopyChoices choices = choose(figures.value());
    for (const auto& counts : choices.table[direction]) {
      for (const CopyStrategy chosen : counts) CHECK(chosen != CopyStrategy::kBatch);
    }
  }
}

TEST_CASE("calibration: memory, streams and events that cannot be had are a status, and nothing is left") {
  for (const char* function :
       {"cuCtxGetCurrent", "cuStreamCreateWithPriority", "cuEventCreate", "cuMemAlloc", "cuMemHostRegister"}) {
    CAPTURE(std::string(function));
    const CopierWorld world;
    const auto copier = world.copier_without_kernels();
    world.sim.fail_call(function, 1, 2, 1);
    const auto figures = measure_copies(*copier, kSmall);
    CHECK(figures.status().code() == Code::kOutOfMemory);
  }
}

TEST_CASE("calibration: each call that fails while it measures costs a strategy at most, and nothing is left") {
  for (std::uint64_t nth = 1; nth < 120; nth += 3) {
    CAPTURE(nth);
    const CopierWorld world("lateness_us=0");
    const auto copier = world.copier({.staging_bytes = 64 << 10});
    world.sim.fail_call(nullptr, nth, 999, 1);
    const auto figures = measure_copies(*copier, {.cell_bytes = 16 << 10, .rounds = 1, .budget_ms = kNoLimit});
    if (!figures.is_ok()) {
      CHECK(figures.status().code() == Code::kIo);
      CHECK(nth < 30);
      continue;
    }
    unsigned lost = 0;
    for (const unsigned direction : {kUp, kDown}) {
      for (const CopyStrategy strategy : kAllStrategies)
        lost += left_out(figures.value(), direction, strategy) ? 0U : 1U;
    }
    CHECK(lost <= 1);
  }
}

TEST_CASE("calibration: a device that is lost is a status") {
  CopierWorld world;
  world.is_lost = true;
  const auto copier = world.copier();
  world.sim.fail_work("copy", 5, 700);
  CHECK(measure_copies(*copier, kSmall).status().code() == Code::kDeviceLost);
}
