#include "support/sim-cuda/memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "support/sim-cuda/context.h"

namespace kvtier::sim {
namespace {

using cuda::Error;

// New device memory holds this, so that what was never written is not taken for zeros.
constexpr int kFreshByte = 0xD7;
constexpr std::size_t kGraveyardLimit = 1024;

// Whether every page of the range belongs to the process.
bool is_mapped(const void* address, std::size_t bytes) {
  const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(address) / page_bytes() * page_bytes();
  const std::uintptr_t end = round_to_pages(reinterpret_cast<std::uintptr_t>(address) + bytes);
  std::array<unsigned char, 4096> residency{};
  for (std::uintptr_t at = first; at < end; at += residency.size() * page_bytes()) {
    const std::size_t part = std::min<std::size_t>(end - at, residency.size() * page_bytes());
    if (::mincore(reinterpret_cast<void*>(at), part, residency.data()) != 0) return false;
  }
  return true;
}

}  // namespace

Error Memory::allocate(const std::shared_ptr<ContextState>& context, std::size_t bytes, cuda::DevicePtr& address) {
  if (bytes == 0) return Error::kInvalidValue;
  const std::size_t used = used_bytes(context->ordinal);
  if (bytes > settings_.memory_bytes || round_to_pages(bytes) > settings_.memory_bytes - used) {
    return Error::kOutOfMemory;
  }
  Mapping at = settings_.reuse ? exhume(round_to_pages(bytes)) : Mapping();
  std::optional<DeviceBytes> memory = DeviceBytes::make(bytes, std::move(at));
  if (!memory) return Error::kOutOfMemory;
  std::memset(memory->alias(), kFreshByte, bytes);
  auto region = std::make_shared<Region>();
  region->context = context;
  region->ordinal = context->ordinal;
  region->address = memory->address();
  region->alias = memory->alias();
  region->bytes = bytes;
  region->memory = std::move(*memory);
  add(region);
  address = region->address;
  return Error::kSuccess;
}

void Memory::record_pending(std::string_view function, const Region& region) {
  if (region.uses == 0 && region.pins == 0) return;
  std::string text(function);
  text += ": " + region.text();
  if (region.uses > 0) text += " is used by " + std::to_string(region.uses) + " parts of queued work";
  if (region.pins > 0) text += " is held by " + region.holder;
  journal_.violation(std::move(text));
}

void Memory::tell_importers(Region& region) {
  SharedPage& shared = region.memory.shared();
  for (const std::atomic<std::int32_t>& importer : shared.importers) {
    const std::int32_t process = importer.load();
    if (process != 0 && ::kill(process, 0) == 0) {
      journal_.violation("cuMemFree: " + region.text() + " is open in process " + std::to_string(process));
    }
  }
  shared.freed.store(1);
}

Error Memory::free(cuda::DevicePtr address) {
  const Found found = find(address, 1);
  if (!found.region) return Error::kInvalidValue;
  if (found.region->gone) journal_.violation("cuMemFree: " + found.region->text() + " was freed before");
  if (found.region->gone || found.region->kind != Region::Kind::kDevice || found.offset != 0) {
    return Error::kInvalidValue;
  }
  record_pending("cuMemFree", *found.region);
  tell_importers(*found.region);
  bury(found.region);
  return Error::kSuccess;
}

std::size_t Memory::used_bytes(int ordinal) const {
  std::size_t used = 0;
  for (const auto& [address, span] : spans_) {
    const Region& region = *span.region;
    if (region.kind == Region::Kind::kDevice && !region.gone && region.ordinal == ordinal) {
      used += round_to_pages(region.bytes);
    }
  }
  return used;
}

Error Memory::register_host(const std::shared_ptr<ContextState>& context, void* address, std::size_t bytes,
                            unsigned flags) {
  const auto first = reinterpret_cast<std::uint64_t>(address);
  if (address == nullptr || bytes == 0 || first + bytes < first) return Error::kInvalidValue;
  constexpr unsigned kKnown = cuda::kHostRegisterPortable | cuda::kHostRegisterDeviceMap | cuda::kHostRegisterReadOnly;
  if ((flags & ~kKnown) != 0) return Error::kInvalidValue;
  const Found found = find(first, bytes);
  if (found.region || found.crosses) {
    const bool device = found.region && found.region->is_device();
    return device ? Error::kInvalidValue : Error::kHostMemoryAlreadyRegistered;
  }
  if (!is_mapped(address, bytes)) return Error::kInvalidValue;
  std::size_t pinned = 0;
  for (const auto& [at, span] : spans_) {
    if (span.region->kind == Region::Kind::kPinned && !span.by_mapped_address) pinned += span.region->bytes;
  }
  if (pinned + bytes > settings_.pinned_bytes) return Error::kOutOfMemory;
  auto region = std::make_shared<Region>();
  region->kind = Region::Kind::kPinned;
  region->context = context;
  region->ordinal = context->ordinal;
  region->address = first;
  region->alias = static_cast<std::byte*>(address);
  region->bytes = bytes;
  region->register_flags = flags;
  if ((flags & cuda::kHostRegisterDeviceMap) != 0) {
    region->mapped_address = first;
    if (!settings_.host_pointers) {
      std::optional<Mapping> reserved = Mapping::reserve(round_to_pages(bytes));
      if (!reserved) return Error::kOutOfMemory;
      region->mapped_address = reinterpret_cast<std::uint64_t>(reserved->get());
      mapped_addresses_.emplace(region->mapped_address, std::move(*reserved));
    }
  }
  add(region);
  return Error::kSuccess;
}

Error Memory::unregister_host(void* address) {
  const auto found = spans_.find(reinterpret_cast<std::uint64_t>(address));
  if (found == spans_.end() || found->second.region->kind != Region::Kind::kPinned || found->second.by_mapped_address) {
    return Error::kHostMemoryNotRegistered;
  }
  const std::shared_ptr<Region> region = found->second.region;
  record_pending("cuMemHostUnregister", *region);
  region->gone = true;
  forget(*region);
  return Error::kSuccess;
}

void Memory::add(const std::shared_ptr<Region>& region) {
  region->id = ++ids_;
  spans_[region->address] = Span{region, false};
  if (region->mapped_address != 0 && region->mapped_address != region->address) {
    spans_[region->mapped_address] = Span{region, true};
  }
}

void Memory::add_import(std::shared_ptr<Region> region) {
  add(region);
}

void Memory::forget(const Region& region) {
  spans_.erase(region.address);
  if (region.mapped_address != 0 && region.mapped_address != region.address) {
    spans_.erase(region.mapped_address);
    mapped_addresses_.erase(region.mapped_address);
  }
}

// The addresses stay, so that a stale pointer is known for what it is; the oldest are given back.
void Memory::bury(const std::shared_ptr<Region>& region) {
  region->gone = true;
  region->alias = nullptr;
  region->memory.drop_bytes();
  graveyard_.push_back(region);
  while (graveyard_.size() > kGraveyardLimit && graveyard_.front()->uses == 0) {
    forget(*graveyard_.front());
    graveyard_.pop_front();
  }
}

Mapping Memory::exhume(std::size_t bytes) {
  const auto fits = [bytes](const auto& region) { return round_to_pages(region->bytes) == bytes && region->uses == 0; };
  const auto found = std::find_if(graveyard_.rbegin(), graveyard_.rend(), fits);
  if (found == graveyard_.rend()) return Mapping();
  const std::shared_ptr<Region> region = *found;
  forget(*region);
  graveyard_.erase(std::next(found).base());
  return region->memory.take_address();
}

std::shared_ptr<Region> Memory::find_import(int owner, std::uint64_t file_number, const ContextState& context) {
  for (const auto& [address, span] : spans_) {
    const Region& region = *span.region;
    if (region.kind == Region::Kind::kImported && !region.gone && region.owner == owner &&
        region.file_number == file_number && region.context.get() == &context) {
      return span.region;
    }
  }
  return nullptr;
}

Error Memory::close_import(cuda::DevicePtr address) {
  const Found found = find(address, 1);
  if (!found.region || found.region->kind != Region::Kind::kImported || found.region->gone || found.offset != 0) {
    return Error::kInvalidValue;
  }
  Region& region = *found.region;
  if (--region.opens > 0) return Error::kSuccess;
  record_pending("cuIpcCloseMemHandle", region);
  for (std::atomic<std::int32_t>& importer : region.memory.shared().importers) {
    std::int32_t self = ::getpid();
    if (importer.compare_exchange_strong(self, 0)) break;
  }
  bury(found.region);
  return Error::kSuccess;
}

void Memory::drop(const ContextState& context) {
  std::vector<std::shared_ptr<Region>> ended;
  for (const auto& [address, span] : spans_) {
    if (span.region->context.get() == &context && !span.region->gone && !span.by_mapped_address) {
      ended.push_back(span.region);
    }
  }
  for (const std::shared_ptr<Region>& region : ended) {
    record_pending("cuDevicePrimaryCtxRelease", *region);
    switch (region->kind) {
      case Region::Kind::kDevice:
        tell_importers(*region);
        bury(region);
        break;
      case Region::Kind::kImported:
        region->opens = 1;
        (void)close_import(region->address);
        break;
      case Region::Kind::kPinned:
        region->gone = true;
        forget(*region);
        break;
    }
  }
}

void Memory::reset() {
  for (const auto& [address, span] : spans_) span.region->gone = true;
  spans_.clear();
  graveyard_.clear();
  mapped_addresses_.clear();
}

std::size_t Memory::count(Region::Kind kind) const {
  return static_cast<std::size_t>(std::count_if(spans_.begin(), spans_.end(), [kind](const auto& entry) {
    return entry.second.region->kind == kind && !entry.second.region->gone && !entry.second.by_mapped_address;
  }));
}

}  // namespace kvtier::sim
