// Windows: one slot's bytes as an ArrayBuffer, without a copy, for tests and codecs. A window keeps its storage open
// until it is closed, collected, or its storage is closed, which detaches it.
#include <string>
#include <utility>

#include "binding/calls.h"

namespace kvtier {
namespace {

// What the finalizer of a window's ArrayBuffer is given. It may run long after the window was closed, when another is
// open on the same slot, and after the environment's data is gone.
struct WindowEnd {
  std::weak_ptr<bool> alive;
  AddonData* data;
  const void* address;
  std::uint64_t id;
};

using Windows = std::unordered_map<const void*, Window>;

void release(Windows& windows, Windows::iterator entry) {
  const Window window = std::move(entry->second);
  windows.erase(entry);
  window.client->release(window.storage);
}

void finalize(napi_env /*env*/, void* /*address*/, void* hint) {
  const std::unique_ptr<WindowEnd> end(static_cast<WindowEnd*>(hint));
  if (end->alive.expired()) return;
  Windows& windows = end->data->windows;
  const auto found = windows.find(end->address);
  if (found != windows.end() && found->second.id == end->id) release(windows, found);
}

void detach(Windows& windows, Windows::iterator entry) {
  const Napi::Value buffer = entry->second.buffer.Value();
  if (!buffer.IsEmpty() && napi_detach_arraybuffer(buffer.Env(), buffer) != napi_ok) {
    fail(Code::kInternal, "a window could not be detached");
  }
  release(windows, entry);
}

}  // namespace

void close_windows(AddonData& data, const SharedStorage& storage) {
  for (auto entry = data.windows.begin(); entry != data.windows.end();) {
    const auto current = entry++;
    if (current->second.storage.get() == &storage) detach(data.windows, current);
  }
}

Napi::Value open_window(AddonData& data, const Napi::CallbackInfo& info) {
  const StorageBox& box = read_storage(info[0], "storage");
  const StorageInfo& storage = box.storage->info();
  const std::uint32_t slot = read_u32(info[1], "slot");
  if (slot >= storage.slot_count) {
    fail(Code::kSlotOutOfRange, "slot " + std::to_string(slot) + " was asked for; the storage has " +
                                    std::to_string(storage.slot_count) + " slots");
  }
  if (!storage.host_addressable || box.storage->storage().view().layout->kind() != LayoutKind::kContiguous) {
    fail(Code::kInvalidValue, "a window needs a storage of contiguous memory");
  }
  const SlotView view = box.storage->storage().view();
  const Fragment& fragment = view.layout->fragments()[0];
  std::byte* address = view.regions[fragment.region] + fragment.offset + fragment.step * slot;
  if (data.windows.contains(address)) {
    fail(Code::kInvalidValue, "a window on slot " + std::to_string(slot) + " is open");
  }
  const std::shared_ptr<SharedStorage> shared = box.storage;
  const std::shared_ptr<EngineClient> client = box.client;
  check(client->hold(shared));
  auto end = std::make_unique<WindowEnd>(WindowEnd{data.alive, &data, address, data.next_window_id++});
  const std::uint64_t id = end->id;
  napi_value buffer = nullptr;
  const napi_status status =
      napi_create_external_arraybuffer(info.Env(), address, fragment.length, &finalize, end.get(), &buffer);
  if (status != napi_ok) {
    client->release(shared);
    fail(Code::kUnsupported, "this build of Node.js does not allow ArrayBuffers over foreign memory");
  }
  static_cast<void>(end.release());
  const Napi::ArrayBuffer window(info.Env(), buffer);
  data.windows.emplace(address, Window{id, Napi::Weak(window), client, shared});
  return window;
}

Napi::Value close_window(AddonData& data, const Napi::CallbackInfo& info) {
  if (!info[0].IsArrayBuffer()) {
    fail(Code::kInvalidType, "window must be an ArrayBuffer of openWindow, got " + describe_value(info[0]));
  }
  void* address = nullptr;
  std::size_t length = 0;
  if (napi_get_arraybuffer_info(info.Env(), info[0], &address, &length) != napi_ok) address = nullptr;
  const auto found = data.windows.find(address);
  // The address alone would also fit the array that a storage borrows.
  if (found == data.windows.end() || !found->second.buffer.Value().StrictEquals(info[0])) {
    fail(Code::kReleased, "the window was closed before, or is none");
  }
  detach(data.windows, found);
  return info.Env().Undefined();
}

}  // namespace kvtier
