// Windows: one slot's bytes as an ArrayBuffer, without a copy, for tests and codecs. A window keeps its storage open
// until it is closed, collected, or its storage is closed, which detaches it.
#include <string>
#include <utility>

#include "binding/calls.h"

namespace kvtier {
namespace {

Windows::Memory memory_of(AddonData& data, const SharedStorage& storage, std::uint32_t region) {
  const auto found = data.borrowed.find(storage.id());
  if (found == data.borrowed.end()) return {storage.storage().share_memory(), nullptr};
  const BorrowedRegion& borrowed = found->second[region];
  const Napi::Uint8Array array = borrowed.array.Value();
  const std::span<std::uint8_t> bytes = read_bytes(array, "storage");
  if (bytes.data() != borrowed.data || bytes.size() != borrowed.length) {
    fail(Code::kDetachedArray, "storage borrows an array that was detached or resized since");
  }
  return {nullptr, std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(array))};
}

}  // namespace

void close_windows(AddonData& data, const SharedStorage& storage) {
  data.windows.close_all(storage);
}

Napi::Value open_window(AddonData& data, const Napi::CallbackInfo& info) {
  const StorageBox& box = read_storage(info[0], "storage");
  const StorageInfo& storage = box.storage->info();
  const std::uint32_t slot = read_u32(info[1], "slot");
  if (slot >= storage.slot_count) {
    fail(Code::kSlotOutOfRange, "slot " + std::to_string(slot) + " was asked for; the storage has " +
                                    std::to_string(storage.slot_count) + " slots");
  }
  const SlotView view = box.storage->storage().view();
  if (!storage.host_addressable || view.layout->kind() != LayoutKind::kContiguous) {
    fail(Code::kInvalidValue, "a window needs a storage of contiguous memory");
  }
  return data.windows.open(box.client, box.storage, slot,
                           memory_of(data, *box.storage, view.layout->fragments()[0].region));
}

Napi::Value close_window(AddonData& data, const Napi::CallbackInfo& info) {
  if (!info[0].IsArrayBuffer()) {
    fail(Code::kInvalidType, "window must be an ArrayBuffer of openWindow, got " + describe_value(info[0]));
  }
  data.windows.close(info[0]);
  return info.Env().Undefined();
}

}  // namespace kvtier
