// Which loads go directly, given figures; and which load an operation is like.
#include "transfer/device/direct_choice.h"

#include <doctest/doctest.h>

#include <clocale>
#include <string>

using namespace kvtier;

namespace {

constexpr DirectFigures figures_of(DirectFigure block, DirectFigure run, DirectFigure scattered) {
  return {.block_bytes = 128 << 10, .run_bytes = 2 << 20, .loads = {block, run, scattered}};
}

}  // namespace

TEST_CASE("direct choice: each kind of load goes the faster way") {
  CHECK(choose_direct(figures_of({5, 4}, {3, 7}, {1, 2})) == DirectChoice{true, false, false});
  CHECK(choose_direct(figures_of({3.9, 5}, {9, 7}, {2, 1.9})) == DirectChoice{false, true, true});
}

TEST_CASE("direct choice: what is three percent slower goes directly, what is slower still does not") {
  CHECK(choose_direct(figures_of({4, 4}, {9.71, 10}, {9.69, 10})) == DirectChoice{true, true, false});
}

TEST_CASE("direct choice: what was not measured does not go directly") {
  CHECK(choose_direct({}) == kNeverDirect);
  CHECK(choose_direct(figures_of({5, 0}, {0, 5}, {5, 5})) == DirectChoice{false, false, true});
}

TEST_CASE("direct choice: the reason has both figures of each load that does not go directly, with three digits") {
  CHECK(why_staged(figures_of({5, 4}, {7, 7}, {2, 2})).empty());
  CHECK(why_staged(figures_of({4.2, 6.104}, {9, 7}, {2, 1})) ==
        "the way through host memory was faster: 6.10 against 4.20 GB/s for one block of 128 KiB");
  CHECK(why_staged(figures_of({9, 7}, {9.994, 12.34}, {0.0421, 123.5})) ==
        "the way through host memory was faster: 12.3 against 9.99 GB/s for a run of 2048 KiB, "
        "124 against 0.0421 GB/s for a run into scattered slots");
}

TEST_CASE(
    "direct choice: figures of slow disks can be told from each other, and none is without a digit before the point") {
  CHECK(why_staged(figures_of({0.0098, 0.0121}, {0.123, 0.5}, {0.000001, 0.99949})) ==
        "the way through host memory was faster: 0.0121 against 0.00980 GB/s for one block of 128 KiB, "
        "0.500 against 0.123 GB/s for a run of 2048 KiB, 0.999 against 0.00000 GB/s for a run into scattered slots");
}

TEST_CASE("direct choice: a process whose locale has a decimal comma gets the same reason") {
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  bool has_comma = false;
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE", "fr_FR"}) {
    has_comma = has_comma || std::setlocale(LC_NUMERIC, name) != nullptr;
  }
  const std::string reason = why_staged(figures_of({4.2, 6.104}, {9, 7}, {2, 123.5}));
  std::setlocale(LC_NUMERIC, before.c_str());
  if (!has_comma) MESSAGE("no locale with a decimal comma is installed");
  CHECK(reason ==
        "the way through host memory was faster: 6.10 against 4.20 GB/s for one block of 128 KiB, "
        "124 against 2.00 GB/s for a run into scattered slots");
}

TEST_CASE("direct choice: where a run has one block the reason names it once") {
  DirectFigures figures = figures_of({4, 6}, {4, 6}, {4, 6});
  figures.run_bytes = figures.block_bytes;
  CHECK(why_staged(figures) ==
        "the way through host memory was faster: 6.00 against 4.00 GB/s for one block of 128 KiB");
}

TEST_CASE("direct choice: an operation is like the load that is nearest to its blocks and its pieces") {
  CHECK(direct_load_of(1, 1, 1) == DirectLoad::kBlock);
  CHECK(direct_load_of(1, 1, 512) == DirectLoad::kBlock);
  CHECK(direct_load_of(3, 1, 16) == DirectLoad::kBlock);
  CHECK(direct_load_of(3, 3, 16) == DirectLoad::kBlock);
  CHECK(direct_load_of(4, 1, 16) == DirectLoad::kRun);
  CHECK(direct_load_of(16, 1, 16) == DirectLoad::kRun);
  CHECK(direct_load_of(16, 3, 16) == DirectLoad::kRun);
  CHECK(direct_load_of(16, 4, 16) == DirectLoad::kScattered);
  CHECK(direct_load_of(16, 16, 16) == DirectLoad::kScattered);
  CHECK(direct_load_of(2, 1, 2) == DirectLoad::kRun);
  CHECK(direct_load_of(2, 2, 2) == DirectLoad::kScattered);
  CHECK(direct_load_of(65536, 65536, 65536) == DirectLoad::kScattered);
}
