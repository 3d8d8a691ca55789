#include "layout/group_shape.h"

#include <optional>
#include <string>

#include "core/checked_size.h"

namespace kvtier {
namespace {

Status invalid(const GroupShape& shape, const std::string& why) {
  return Status(Code::kInvalidValue, "a layer group of " + describe(shape) + " was asked for: " + why);
}

}  // namespace

std::string describe(const GroupShape& shape) {
  return std::to_string(shape.parts) + " parts x " + std::to_string(shape.layers) + " layers x " +
         std::to_string(shape.outer) + " outer x " + std::to_string(shape.tokens_per_block) + " tokens x " +
         std::to_string(shape.bytes_per_token) + " bytes";
}

Status GroupShape::validate() const {
  if (parts == 0) return invalid(*this, "parts must be at least 1");
  if (layers == 0) return invalid(*this, "layers must be at least 1");
  if (outer != 1 && outer != 2) return invalid(*this, "outer must be 1 or 2");
  if (tokens_per_block == 0) return invalid(*this, "tokens a block must be at least 1");
  if (bytes_per_token == 0) return invalid(*this, "bytes a token must be at least 1");

  const std::uint64_t regions = std::uint64_t{parts} * layers;
  const std::optional<std::uint64_t> fragments = checked_product(regions, outer);
  if (!fragments || *fragments > kMaxBlockFragments) {
    return invalid(*this, "parts x layers x outer must be at most " + std::to_string(kMaxBlockFragments));
  }
  const std::optional<std::uint64_t> block = checked_product(*fragments, fragment_bytes());
  if (!block || *block > kMaxBlockBytes) {
    return invalid(*this, "a block must be at most " + std::to_string(kMaxBlockBytes) + " bytes");
  }
  return Status::ok();
}

}  // namespace kvtier
