#include "storage/gds/direct_slab.h"

#include <string>
#include <utility>

namespace kvtier {
namespace {

// Moves a run between consecutive slots and their payloads; `move` takes the file's offset, the first payload of a
// piece of memory without gaps, and the piece's length.
template <typename Move>
Status move_run(std::uint64_t file_offset, std::span<const DevicePayload> payloads, std::uint64_t stride, Move move) {
  for (std::size_t first = 0, end = 0; first < payloads.size(); first = end) {
    const DevicePayload& payload = payloads[first];
    KVTIER_CHECK(payload.buffer != nullptr);
    for (end = first + 1; end < payloads.size() && payloads[end].buffer == payload.buffer &&
                          payloads[end].offset == payloads[end - 1].offset + stride;) {
      ++end;
    }
    const std::uint64_t size_bytes = (end - first) * stride;
    if (Status status = move(file_offset, payload, size_bytes); !status.is_ok()) return status;
    file_offset += size_bytes;
  }
  return Status::ok();
}

}  // namespace

DirectSlab::DirectSlab(CufileHandle&& file, std::uint64_t slot_stride) noexcept
    : file_(std::move(file)), slot_stride_(slot_stride) {}

Result<std::unique_ptr<const DirectSlab>> DirectSlab::open(const CufileDriver& driver, const SlabFile& slab,
                                                           std::uint64_t slot_stride) {
  if (slot_stride % kCufileAlignment != 0) {
    return Status(Code::kUnsupported, "the slots of " + slab.path() + " are " + std::to_string(slot_stride) +
                                          " bytes; transfers between them and a GPU need a multiple of " +
                                          std::to_string(kCufileAlignment));
  }
  auto file = CufileHandle::open(driver, slab.descriptor(), slab.path());
  if (!file.is_ok()) return file.status();
  return std::unique_ptr<const DirectSlab>(new DirectSlab(std::move(file).value(), slot_stride));
}

Status DirectSlab::read(std::uint32_t first_slot, std::span<const DevicePayload> payloads) const {
  return move_run(first_slot * slot_stride_, payloads, slot_stride_,
                  [this](std::uint64_t offset, const DevicePayload& payload, std::uint64_t size_bytes) {
                    return file_.read(offset, *payload.buffer, payload.offset, size_bytes);
                  });
}

Status DirectSlab::write(std::uint32_t first_slot, std::span<const DevicePayload> payloads) const {
  return move_run(first_slot * slot_stride_, payloads, slot_stride_,
                  [this](std::uint64_t offset, const DevicePayload& payload, std::uint64_t size_bytes) {
                    return file_.write(offset, *payload.buffer, payload.offset, size_bytes);
                  });
}

}  // namespace kvtier
