// Which strategy a copy takes by its size.
#include "transfer/device/copy_choices.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>

using kvtier::CopyChoices;
using kvtier::CopyStrategy;

namespace {

constexpr std::uint64_t kKiB = 1024;

}  // namespace

TEST_CASE("sizes of runs fall into buckets that begin at powers of two from 1 KiB on") {
  CHECK(kvtier::copy_size_bucket(0) == 0);
  CHECK(kvtier::copy_size_bucket(1) == 0);
  CHECK(kvtier::copy_size_bucket(2 * kKiB - 1) == 0);
  CHECK(kvtier::copy_size_bucket(2 * kKiB) == 1);
  CHECK(kvtier::copy_size_bucket(32 * kKiB - 1) == 4);
  CHECK(kvtier::copy_size_bucket(32 * kKiB) == 5);
  CHECK(kvtier::copy_size_bucket(16 * kKiB * kKiB) == kvtier::kCopySizeBuckets - 1);
  CHECK(kvtier::copy_size_bucket(std::numeric_limits<std::uint64_t>::max()) == kvtier::kCopySizeBuckets - 1);
}

TEST_CASE("numbers of runs fall into buckets that begin at powers of four") {
  CHECK(kvtier::copy_count_bucket(0) == 0);
  CHECK(kvtier::copy_count_bucket(3) == 0);
  CHECK(kvtier::copy_count_bucket(4) == 1);
  CHECK(kvtier::copy_count_bucket(15) == 1);
  CHECK(kvtier::copy_count_bucket(16) == 2);
  CHECK(kvtier::copy_count_bucket(65'535) == 7);
  CHECK(kvtier::copy_count_bucket(65'536) == kvtier::kCopyCountBuckets - 1);
  CHECK(kvtier::copy_count_bucket(std::numeric_limits<std::uint64_t>::max()) == kvtier::kCopyCountBuckets - 1);
}

TEST_CASE("a bucket begins with what falls into it, and nothing less does") {
  for (unsigned size = 1; size < kvtier::kCopySizeBuckets; ++size) {
    CHECK(kvtier::copy_size_bucket(kvtier::bytes_of_bucket(size)) == size);
    CHECK(kvtier::copy_size_bucket(kvtier::bytes_of_bucket(size) - 1) == size - 1);
  }
  for (unsigned count = 1; count < kvtier::kCopyCountBuckets; ++count) {
    CHECK(kvtier::copy_count_bucket(kvtier::runs_of_bucket(count)) == count);
    CHECK(kvtier::copy_count_bucket(kvtier::runs_of_bucket(count) - 1) == count - 1);
  }
}

TEST_CASE("by default no copy from the device takes a kernel") {
  const CopyChoices choices = CopyChoices::defaults();
  for (std::uint64_t bytes = 1; bytes <= 64 * kKiB * kKiB; bytes *= 2) {
    for (std::uint64_t runs = 1; runs <= 1'000'000; runs *= 2) CHECK(!uses_kernels(choices.at(false, bytes, runs)));
  }
  CHECK(choices.at(false, 4 * kKiB, 1) == CopyStrategy::kSingle);
  CHECK(choices.at(false, 4 * kKiB, 1000) == CopyStrategy::kBatch);
}

TEST_CASE("by default small runs go to the device by a kernel from sixteen on, and large ones by the copy engine") {
  const CopyChoices choices = CopyChoices::defaults();
  CHECK(choices.at(true, 32 * kKiB - 1, 16) == CopyStrategy::kKernel);
  CHECK(choices.at(true, 100, 1'000'000) == CopyStrategy::kKernel);
  CHECK(choices.at(true, 32 * kKiB - 1, 15) == CopyStrategy::kSingle);
  CHECK(choices.at(true, 32 * kKiB, 16) == CopyStrategy::kBatch);
  CHECK(choices.at(true, 32 * kKiB, 100'000) == CopyStrategy::kBatch);
  CHECK(choices.at(true, 2048 * kKiB, 1) == CopyStrategy::kSingle);
}

TEST_CASE("strategies have the names that users write") {
  CHECK(std::string(name_of(CopyStrategy::kSingle)) == "single");
  CHECK(std::string(name_of(CopyStrategy::kRectangle)) == "rectangle");
  CHECK(std::string(name_of(CopyStrategy::kBatch)) == "batch");
  CHECK(std::string(name_of(CopyStrategy::kKernel)) == "kernel");
  CHECK(std::string(name_of(CopyStrategy::kStaged)) == "staged");
  CHECK(kvtier::kCopyStrategyCount == 5);
}
