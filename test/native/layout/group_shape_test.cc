// What a shape may be, and that its sizes never wrap.
#include "layout/group_shape.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>

using kvtier::Code;
using kvtier::GroupShape;

namespace {

constexpr std::uint32_t kMax = std::numeric_limits<std::uint32_t>::max();

Code code_of(const GroupShape& shape) {
  return shape.validate().code();
}

}  // namespace

TEST_CASE("the sizes of a shape are those of its block") {
  const GroupShape shape{.parts = 2, .layers = 3, .outer = 2, .tokens_per_block = 16, .bytes_per_token = 100};
  CHECK(shape.validate().is_ok());
  CHECK(shape.fragment_bytes() == 1600);
  CHECK(shape.part_bytes() == 9600);
  CHECK(shape.block_bytes() == 19200);
  CHECK(shape.slot_stride() == 20480);
}

TEST_CASE("a slot's stride is the block's size when that is a multiple of 4 KiB") {
  const GroupShape shape{.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 16, .bytes_per_token = 256};
  CHECK(shape.slot_stride() == 4096);
}

TEST_CASE("a shape with a field of 0 is refused") {
  const GroupShape good{.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 1};
  CHECK(good.validate().is_ok());
  for (std::uint32_t GroupShape::*field : {&GroupShape::parts, &GroupShape::layers, &GroupShape::outer,
                                           &GroupShape::tokens_per_block, &GroupShape::bytes_per_token}) {
    GroupShape bad = good;
    bad.*field = 0;
    CHECK(code_of(bad) == Code::kInvalidValue);
  }
}

TEST_CASE("an outer dimension other than 1 or 2 is refused, and the message shows the shape") {
  const GroupShape shape{.parts = 1, .layers = 5, .outer = 3, .tokens_per_block = 7, .bytes_per_token = 9};
  const kvtier::Status status = shape.validate();
  CHECK(status.code() == Code::kInvalidValue);
  CHECK(status.message().find("1 parts x 5 layers x 3 outer x 7 tokens x 9 bytes") != std::string::npos);
}

TEST_CASE("a block may have 1 GiB and not a byte more") {
  GroupShape shape{.parts = 1, .layers = 1, .outer = 1, .tokens_per_block = 1, .bytes_per_token = 1U << 30};
  CHECK(shape.validate().is_ok());
  shape.bytes_per_token += 1;
  CHECK(code_of(shape) == Code::kInvalidValue);
}

TEST_CASE("a shape whose block size wraps 64 bits is refused") {
  // 2^33 regions of 2^31 bytes: the product is 2^64, which wraps to 0.
  CHECK(code_of({.parts = 1U << 17,
                 .layers = 1U << 16,
                 .outer = 1,
                 .tokens_per_block = 1U << 16,
                 .bytes_per_token = 1U << 15}) == Code::kInvalidValue);
  // A few fragments, each nearly 2^64 bytes.
  CHECK(code_of({.parts = 1, .layers = 2, .outer = 1, .tokens_per_block = 1U << 31, .bytes_per_token = 1U << 31}) ==
        Code::kInvalidValue);
  CHECK(code_of({.parts = kMax, .layers = kMax, .outer = 2, .tokens_per_block = kMax, .bytes_per_token = kMax}) ==
        Code::kInvalidValue);
}

TEST_CASE("a shape may have 2^20 fragments and not one more") {
  GroupShape shape{.parts = 1, .layers = 1U << 19, .outer = 2, .tokens_per_block = 1, .bytes_per_token = 1};
  CHECK(shape.validate().is_ok());
  shape.layers += 1;
  CHECK(code_of(shape) == Code::kInvalidValue);
}
