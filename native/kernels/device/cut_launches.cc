#include "kernels/device/cut_launches.h"

#include <algorithm>
#include <bit>

#include "core/check.h"
#include "digest/payload_checksum.h"

namespace kvtier {
namespace {

using device::CopyLaunch;
using device::HashedPayload;
using device::HashLaunch;

// What a kernel counts with 32 bits stays below this, also after its last step.
constexpr std::uint64_t kCountLimit = (std::uint64_t{1} << 31) - 1;
constexpr std::uint64_t kLengthLimit = std::uint64_t{1} << 38;
// A launch has room for the most runs with about so many fragments: they cost two words of the table each, slots one.
constexpr std::uint64_t kBestFragments = CopyLaunch::kTableWords / 4;
constexpr std::uint64_t kMostFragments = (CopyLaunch::kTableWords - 1) / 2;

constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) noexcept {
  return (value + by - 1) / by;
}

// The largest unit that every address and length is a multiple of.
unsigned common_unit(const SlotCopy& copy) noexcept {
  std::uint64_t bits = copy.fragment_bytes | copy.device_step | copy.host_base | copy.host_stride;
  for (const KernelFragment& fragment : copy.fragments) bits |= fragment.device | fragment.host_offset;
  for (const unsigned unit : {16U, 8U, 4U}) {
    if (bits % unit == 0) return unit;
  }
  return 1;
}

std::uint32_t low_32(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value);
}

}  // namespace

CopyLaunches::CopyLaunches(const SlotCopy& copy) noexcept : copy_(copy), unit_bytes_(common_unit(copy)) {
  KVTIER_CHECK(copy.fragment_bytes > 0 && copy.fragment_bytes < kLengthLimit);
  const std::uint64_t units = copy.fragment_bytes / unit_bytes_;
  lanes_ = units >= device::kWarpLanes ? device::kWarpLanes : std::bit_ceil(low_32(units));
  pieces_ = low_32(divide_up(copy.fragment_bytes, device::piece_bytes_of(unit_bytes_, lanes_)));
  if (copy.fragments.empty() || copy.slots.empty()) {
    at_fragment_ = copy.fragments.size();
    return;
  }
  choose_chunks();
}

// As few launches as possible.
void CopyLaunches::choose_chunks() noexcept {
  const std::uint64_t fragments = copy_.fragments.size();
  const std::uint64_t slots = copy_.slots.size();
  const std::uint64_t most = std::min(kMostFragments, kCountLimit / pieces_);
  std::uint64_t fewest = 0;
  const std::uint64_t first = divide_up(fragments, most);
  for (std::uint64_t chunks = first; chunks <= first + divide_up(fragments, kBestFragments); ++chunks) {
    const std::uint64_t tried = divide_up(fragments, chunks);
    const std::uint64_t room = std::min({slots, CopyLaunch::kTableWords - 2 * tried, kCountLimit / (pieces_ * tried)});
    const std::uint64_t launches = divide_up(fragments, tried) * divide_up(slots, room);
    if (fewest != 0 && launches >= fewest) continue;
    fewest = launches;
    fragments_ = tried;
    slots_ = room;
  }
}

bool CopyLaunches::next(CopyLaunch& launch) noexcept {
  if (at_fragment_ == copy_.fragments.size()) return false;
  const auto fragments =
      copy_.fragments.subspan(at_fragment_, std::min(fragments_, copy_.fragments.size() - at_fragment_));
  const auto slots = copy_.slots.subspan(at_slot_, std::min(slots_, copy_.slots.size() - at_slot_));
  launch.host_base = copy_.host_base;
  launch.host_stride = copy_.host_stride;
  launch.device_step = copy_.device_step;
  launch.run_bytes = copy_.fragment_bytes;
  launch.fragments = low_32(fragments.size());
  launch.pieces = pieces_;
  launch.items = low_32(pieces_ * fragments.size() * slots.size());
  launch.lanes = static_cast<std::uint16_t>(lanes_);
  launch.to_device = copy_.to_device ? 1 : 0;
  std::uint64_t* word = launch.table;
  for (const KernelFragment& fragment : fragments) {
    *word++ = fragment.device;
    *word++ = fragment.host_offset;
  }
  for (const KernelSlots& pair : slots) *word++ = pair.device | std::uint64_t{pair.host} << 32;

  at_slot_ += slots.size();
  if (at_slot_ == copy_.slots.size()) {
    at_slot_ = 0;
    at_fragment_ += fragments.size();
  }
  return true;
}

unsigned blocks_of(const CopyLaunch& launch, unsigned max_blocks) noexcept {
  const std::uint64_t needed = divide_up(std::uint64_t{launch.items} * launch.lanes, device::kCopyThreads);
  return low_32(std::min<std::uint64_t>({needed, max_blocks, device::kMostBlocks}));
}

bool HashLaunches::next(HashLaunch& launch) noexcept {
  std::uint64_t leaves = 0;
  std::uint64_t bits = 0;
  launch.payloads = 0;
  while (!payloads_.empty() && launch.payloads < HashLaunch::kPayloads) {
    const LeafHashes& next = payloads_.front();
    KVTIER_CHECK(next.part_bytes > 0 && next.part_bytes < kLengthLimit && next.result % 8 == 0);
    const std::uint64_t of_part = leaves_of_part(next.part_bytes);
    const std::uint64_t more = of_part * next.parts;
    KVTIER_CHECK(more <= kCountLimit);
    if (leaves + more > kCountLimit) break;
    leaves += more;
    bits |= next.payload | next.part_bytes;
    launch.payload[launch.payloads++] = {next.payload, next.part_bytes, next.seed,
                                         next.result,  low_32(of_part), low_32(leaves)};
    payloads_ = payloads_.subspan(1);
  }
  launch.leaves = low_32(leaves);
  unit_bytes_ = bits % 16 == 0 ? 16 : 1;
  return launch.payloads > 0;
}

}  // namespace kvtier
