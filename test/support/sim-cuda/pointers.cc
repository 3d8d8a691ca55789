// What the pointers of a call mean: the part of Memory that looks them up.
#include <poll.h>

#include <string>

#include "support/sim-cuda/context.h"
#include "support/sim-cuda/memory.h"

namespace kvtier::sim {

using cuda::Error;

bool Region::is_orphan() const {
  if (kind != Kind::kImported || gone) return false;
  if (memory.shared().freed.load() != 0) return true;
  pollfd waiting{owner_process.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

std::string Region::text() const {
  std::string result = std::to_string(bytes) + " bytes of ";
  switch (kind) {
    case Kind::kDevice:
      return result + "device " + std::to_string(ordinal);
    case Kind::kImported:
      return result + "process " + std::to_string(owner) + " on device " + std::to_string(ordinal);
    case Kind::kPinned:
      return result + "registered host memory";
  }
  return result;
}

Memory::Found Memory::find(std::uint64_t address, std::size_t bytes) const {
  Found found;
  const std::uint64_t end = address + bytes;
  if (end < address) {
    found.crosses = true;
    return found;
  }
  const auto next = spans_.upper_bound(address);
  if (next != spans_.begin()) {
    const auto& [first, span] = *std::prev(next);
    const Region& region = *span.region;
    // The rest of an allocation's last page is nobody's.
    const std::size_t extent = region.is_device() ? round_to_pages(region.bytes) : region.bytes;
    if (address - first < extent) {
      found.region = span.region;
      found.offset = address - first;
      found.by_mapped_address = span.by_mapped_address;
      found.crosses = found.offset >= region.bytes || bytes > region.bytes - found.offset;
      return found;
    }
  }
  found.crosses = next != spans_.end() && next->first < end;
  if (found.crosses) found.region = next->second.region;
  return found;
}

Error Memory::place(std::string_view function, std::uint64_t address, std::size_t bytes, Side side,
                    const ContextState& context, Place& place) {
  if (address == 0) return Error::kInvalidValue;
  const Found found = find(address, bytes);
  if (found.crosses) {
    // Past the end of an allocation a real driver may well find the next one.
    if (found.region && found.region->is_device()) {
      journal_.violation(std::string(function) + ": a range of " + std::to_string(bytes) + " bytes leaves " +
                         found.region->text());
    }
    return Error::kInvalidValue;
  }
  if (found.region && found.region->gone) {
    journal_.violation(std::string(function) + ": " + found.region->text() + " was freed before");
    return Error::kInvalidValue;
  }
  const bool registered = found.region && !found.region->is_device();
  // Without PORTABLE it is pinned for the context alone in which it was registered.
  const bool pageable = !found.region || (registered && found.region->context.get() != &context &&
                                          (found.region->register_flags & cuda::kHostRegisterPortable) == 0);
  switch (side) {
    case Side::kHost:
      if (found.region && (found.region->is_device() || found.by_mapped_address)) return Error::kInvalidValue;
      break;
    case Side::kDevice:
      if (pageable || (registered && found.region->mapped_address == 0)) return Error::kInvalidValue;
      break;
    case Side::kEither:
      break;
  }
  if (found.region && found.region->is_orphan()) {
    journal_.violation(std::string(function) + ": " + found.region->text() + " is freed, or its owner is dead");
  }
  if (pageable) {
    place = Place{Use(), found.region ? found.region->alias + found.offset : reinterpret_cast<std::byte*>(address)};
  } else {
    place = Place{Use(found.region), found.region->alias + found.offset};
  }
  return Error::kSuccess;
}

std::byte* Memory::reach(const ContextState& context, std::uint64_t address, std::size_t bytes) {
  const auto refuse = [&](const std::string& why) -> std::byte* {
    journal_.violation("a kernel of device " + std::to_string(context.ordinal) + " touches " + std::to_string(bytes) +
                       " bytes: " + why);
    return nullptr;
  };
  const Found found = find(address, bytes);
  if (!found.region && !found.crosses) return refuse("no memory that the device knows");
  if (found.crosses) return refuse("beyond the end of an allocation");
  const Region& region = *found.region;
  if (region.gone || region.is_orphan()) return refuse(region.text() + ", freed");
  if (region.is_device()) {
    if (region.context.get() != &context && !context.peers.contains(region.ordinal)) {
      return refuse(region.text() + ", without peer access");
    }
    return region.alias + found.offset;
  }
  if (region.mapped_address == 0) return refuse(region.text() + ", which is not mapped");
  if (region.mapped_address != region.address && !found.by_mapped_address) {
    return refuse(region.text() + " by its host address");
  }
  if (region.context.get() != &context && (region.register_flags & cuda::kHostRegisterPortable) == 0) {
    return refuse(region.text() + " of another context");
  }
  return region.alias + found.offset;
}

}  // namespace kvtier::sim
