#include "storage/storage.h"

#include <string>

namespace kvtier {
namespace {

Status not_persistent(const StorageInfo& info) {
  return Status(Code::kUnsupported, std::string("a storage of kind ") + info.kind +
                                        " was asked to read or write runs; only a persistent one can");
}

Status not_direct(const StorageInfo& info) {
  return Status(Code::kUnsupported, std::string("a storage of kind ") + info.kind +
                                        " was asked to move runs between its slots and a GPU's memory directly, which "
                                        "was not opened for it");
}

}  // namespace

Status Storage::write_run(std::uint32_t /*first_slot*/, std::span<const std::byte* const> /*payloads*/,
                          std::span<const BlockRecord> /*records*/) noexcept {
  return not_persistent(info());
}

Status Storage::read_run(std::uint32_t /*first_slot*/, std::span<std::byte* const> /*payloads*/) noexcept {
  return not_persistent(info());
}

Status Storage::write_run_from_device(std::uint32_t /*first_slot*/, std::span<const DevicePayload> /*payloads*/,
                                      std::span<const BlockRecord> /*records*/) noexcept {
  return not_direct(info());
}

Status Storage::read_run_to_device(std::uint32_t /*first_slot*/, std::span<const DevicePayload> /*payloads*/) noexcept {
  return not_direct(info());
}

Status Storage::erase(std::span<const std::uint32_t> /*slots*/) noexcept {
  return not_persistent(info());
}

Status Storage::sync() noexcept {
  return not_persistent(info());
}

}  // namespace kvtier
