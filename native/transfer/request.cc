#include "transfer/request.h"

#include <algorithm>
#include <string>
#include <utility>

namespace kvtier {
namespace {

using Place = std::pair<const SharedStorage*, std::uint32_t>;

Status needs(const TransferRequest& request, const SharedStorage& storage, const char* role, const char* what) {
  return Status(Code::kInvalidValue, std::string(traits_of(request.path).name) + " needs a " + role + " that " + what +
                                         "; the storage is of kind " + storage.info().kind);
}

Status check_memory(const TransferRequest& request, const SharedStorage& storage, const char* role) {
  const bool in_memory = storage.info().host_addressable || storage.info().on_device;
  return in_memory ? Status::ok() : needs(request, storage, role, "lies in memory");
}

// What a GPU copies from or to is another GPU's, or contiguous host memory; what the CPU writes or reads is its own.
Status check_device(const TransferRequest& request, const PathTraits& traits) {
  if (!request.on_device()) {
    if (!request.after.empty() || request.ready) return needs(request, *request.target, "storage", "is on a device");
    return Status::ok();
  }
  const SharedStorage& source = *request.source;
  const SharedStorage& target = *request.target;
  if (traits.writes_disk && !(target.info().direct_device && source.direct_payload(0))) {
    return needs(request, source, "source", "the CPU can read, or that takes direct transfers with the target");
  }
  if (request.ready && !target.info().on_device) return needs(request, target, "target", "is on a device");
  if (request.ready && !request.ready->fits(target.links(), target.info().shape.layers)) {
    return Status(Code::kInvalidValue, "the events of the transfer were made for another storage than its target");
  }
  if (!traits.has_target || !traits.memory_only()) return Status::ok();
  if (source.info().on_device && target.info().on_device) {
    if (source.links().size() == target.links().size()) return Status::ok();
    return Status(Code::kUnsupported, "the parts of the source lie on " + std::to_string(source.links().size()) +
                                          " devices, those of the target on " + std::to_string(target.links().size()));
  }
  const SharedStorage& host = source.info().on_device ? target : source;
  if (host.slot_in_place(0) != nullptr) return Status::ok();
  return needs(request, host, source.info().on_device ? "target" : "source", "is contiguous memory");
}

Status check_disk(const TransferRequest& request, const SharedStorage& storage, const char* role) {
  return storage.info().persistent ? Status::ok() : needs(request, storage, role, "is persistent");
}

Status check_checksums(const TransferRequest& request, const SharedStorage& storage, const char* role) {
  return storage.info().keeps_checksums ? Status::ok() : needs(request, storage, role, "keeps checksums");
}

Status check_kinds(const TransferRequest& request, const PathTraits& traits) {
  const SharedStorage& source = *request.source;
  const SharedStorage& target = *request.target;
  if (Status status =
          traits.reads_disk ? check_disk(request, source, "source") : check_memory(request, source, "source");
      !status.is_ok()) {
    return status;
  }
  if (traits.has_target) {
    if (Status status =
            traits.writes_disk ? check_disk(request, target, "target") : check_memory(request, target, "target");
        !status.is_ok()) {
      return status;
    }
  }
  if (traits.needs_checksums) {
    // What goes to disk takes the source's checksum along; otherwise the target gets one.
    // What comes directly from a GPU gets its checksum on the way.
    if (traits.writes_disk && source.info().on_device) return Status::ok();
    return traits.writes_disk ? check_checksums(request, source, "source") : check_checksums(request, target, "target");
  }
  return Status::ok();
}

Status check_shapes(const TransferRequest& request) {
  const GroupShape& shape = request.source->info().shape;
  if (request.target->info().shape == shape && (!request.via || request.via->info().shape == shape)) {
    return Status::ok();
  }
  return Status(Code::kLayoutMismatch, "the storages of a transfer must have one shape; the source's blocks have " +
                                           std::to_string(shape.block_bytes()) + " bytes, the target's " +
                                           std::to_string(request.target->info().shape.block_bytes()));
}

Status check_slot(const SharedStorage& storage, std::uint32_t slot, const char* role, std::size_t block) {
  if (slot < storage.info().slot_count) return Status::ok();
  return Status(Code::kSlotOutOfRange, std::string(role) + " slot " + std::to_string(slot) + " of block " +
                                           std::to_string(block) + " was asked for; the storage has " +
                                           std::to_string(storage.info().slot_count) + " slots");
}

Status repeated(const Place& place, const char* how) {
  return Status(Code::kSlotRepeated, "slot " + std::to_string(place.second) + " of a storage of kind " +
                                         place.first->info().kind + " is " + how + " in one call");
}

// No slot is written twice, and none is read and written.
Status check_repeats(const TransferRequest& request, const PathTraits& traits) {
  if (!traits.writes_target) return Status::ok();
  std::vector<Place> written;
  written.reserve(request.moves.size() * (request.via ? 2 : 1));
  for (const Move& move : request.moves) {
    written.emplace_back(request.target.get(), move.target);
    if (request.via && move.via != kNoSlot) written.emplace_back(request.via.get(), move.via);
  }
  if (!std::is_sorted(written.begin(), written.end())) std::sort(written.begin(), written.end());
  if (const auto twice = std::adjacent_find(written.begin(), written.end()); twice != written.end()) {
    return repeated(*twice, "written twice");
  }
  if (!traits.has_target || (request.source != request.target && request.source != request.via)) return Status::ok();
  for (const Move& move : request.moves) {
    const Place read{request.source.get(), move.source};
    if (std::binary_search(written.begin(), written.end(), read)) return repeated(read, "read and written");
  }
  return Status::ok();
}

Status check_counts(const TransferRequest& request) {
  const std::size_t count = request.moves.size();
  if (count > kMaxTransferBlocks) {
    return Status(Code::kInvalidValue, std::to_string(count) + " blocks in one transfer; at most " +
                                           std::to_string(kMaxTransferBlocks) + " are allowed");
  }
  const bool needs_hashes = request.path != TransferPath::kMemoryToMemory;
  const bool needs_records = request.path == TransferPath::kMemoryToSlab;
  if ((needs_hashes && request.hashes.size() != count) || (needs_records && request.records.size() != count)) {
    return Status(Code::kInvalidValue, std::to_string(request.hashes.size()) + " hashes and " +
                                           std::to_string(request.records.size()) + " records were given for " +
                                           std::to_string(count) + " blocks");
  }
  return Status::ok();
}

}  // namespace

Status validate(const TransferRequest& request) {
  const PathTraits traits = traits_of(request.path);
  if (Status status = check_counts(request); !status.is_ok()) return status;
  if (Status status = check_kinds(request, traits); !status.is_ok()) return status;
  if (Status status = check_device(request, traits); !status.is_ok()) return status;
  if (Status status = check_shapes(request); !status.is_ok()) return status;
  if (request.via) {
    if (!traits.takes_via) {
      return Status(Code::kInvalidValue, std::string(traits.name) + " takes no via storage");
    }
    if (request.via->slot_in_place(0) == nullptr) return needs(request, *request.via, "via", "is contiguous memory");
  }
  for (std::size_t i = 0; i < request.moves.size(); ++i) {
    const Move& move = request.moves[i];
    if (Status status = check_slot(*request.source, move.source, "source", i); !status.is_ok()) return status;
    if (traits.has_target) {
      if (Status status = check_slot(*request.target, move.target, "target", i); !status.is_ok()) return status;
    }
    if (move.via == kNoSlot || !traits.takes_via) continue;
    if (!request.via) {
      return Status(Code::kInvalidValue, "block " + std::to_string(i) + " names via slot " + std::to_string(move.via) +
                                             ", but the call names no via storage");
    }
    if (Status status = check_slot(*request.via, move.via, "via", i); !status.is_ok()) return status;
  }
  return check_repeats(request, traits);
}

}  // namespace kvtier
