#include "binding/windows.h"

#include <string>

#include "binding/fault.h"
#include "binding/handles.h"

namespace kvtier {
namespace {

bool is_detached(const Napi::Value& buffer) {
  bool detached = false;
  return napi_is_detached_arraybuffer(buffer.Env(), buffer, &detached) != napi_ok || detached;
}

// Whether the environment runs no JavaScript any more.
bool is_ending(napi_env env) {
  napi_value global = nullptr;
  bool has = false;
  return napi_get_global(env, &global) != napi_ok || napi_has_named_property(env, global, "Object", &has) != napi_ok;
}

}  // namespace

Napi::ArrayBuffer Windows::open(const std::shared_ptr<EngineClient>& client,
                                const std::shared_ptr<SharedStorage>& storage, std::uint32_t slot, Memory memory) {
  const SlotKey key{storage->id(), slot};
  check_free(key);
  const SlotView view = storage->storage().view();
  const Fragment& fragment = view.layout->fragments()[0];
  std::byte* const address = view.regions[fragment.region] + fragment.offset + fragment.step * slot;

  check(client->hold(storage));
  auto end = std::make_unique<End>(End{alive_, next_id_++, std::move(memory)});
  napi_value buffer = nullptr;
  if (napi_create_external_arraybuffer(env_, address, fragment.length, &finalize, end.get(), &buffer) != napi_ok) {
    client->release(storage);
    fail(Code::kUnsupported, "this build of Node.js does not allow ArrayBuffers over foreign memory");
  }
  End* const owned = end.release();  // by the buffer
  const Napi::ArrayBuffer window(env_, buffer);
  table_.emplace(owned->id, Window{key, Napi::Weak(window), client, storage, owned, false});
  by_slot_.insert_or_assign(key, owned->id);
  number_window(window, owned->id);
  return window;
}

void Windows::check_free(const SlotKey& slot) {
  const auto last = by_slot_.find(slot);
  if (last == by_slot_.end()) return;
  Window& window = table_.at(last->second);
  if (window.lost) {
    fail(Code::kInvalidValue, "the window on slot " + std::to_string(slot.second) +
                                  " was transferred away; the slot is taken until what it became is collected");
  }
  if (!window.buffer.Value().IsEmpty()) {
    fail(Code::kInvalidValue, "a window on slot " + std::to_string(slot.second) + " is open");
  }
  // Collected without a close. It may have been transferred before: who must know keeps the window until close().
  let_go(window);
}

void Windows::close(const Napi::Value& buffer) {
  const auto entry = table_.find(number_of_window(buffer));
  // Another load of the addon numbers its windows, too.
  const Napi::Value own = entry == table_.end() ? Napi::Value() : entry->second.buffer.Value();
  if (own.IsEmpty() || !own.StrictEquals(buffer)) fail(Code::kReleased, "the window was closed before, or is none");
  const std::uint32_t slot = entry->second.slot.second;
  if (!detach_or_lose(entry)) {
    fail(Code::kDetachedArray, "the window on slot " + std::to_string(slot) +
                                   " was transferred away; the slot is taken until what it became is collected");
  }
}

void Windows::close_all(const SharedStorage& storage) {
  for (auto entry = table_.begin(); entry != table_.end();) {
    const auto current = entry++;
    if (current->second.storage.get() == &storage) static_cast<void>(detach_or_lose(current));
  }
}

bool Windows::detach_or_lose(Table::iterator entry) {
  Window& window = entry->second;
  const Napi::Value buffer = window.buffer.Value();
  if (buffer.IsEmpty() || is_detached(buffer)) {
    // What this side detaches has no entry any more. A buffer that was collected may have been transferred before.
    window.lost = !buffer.IsEmpty();
    let_go(window);
    return !window.lost;
  }
  if (napi_detach_arraybuffer(env_, buffer) != napi_ok) fail(Code::kInternal, "a window could not be detached");
  window.end->memory = {};
  let_go(window);
  erase(entry);
  return true;
}

void Windows::let_go(Window& window) {
  if (!window.storage) return;
  window.client->release(window.storage);
  window.storage.reset();
  window.client.reset();
}

void Windows::erase(Table::iterator entry) {
  const auto last = by_slot_.find(entry->second.slot);
  if (last != by_slot_.end() && last->second == entry->first) by_slot_.erase(last);
  table_.erase(entry);
}

void Windows::finalize(napi_env env, void* /*address*/, void* hint) {
  const std::unique_ptr<End> end(static_cast<End*>(hint));
  const std::shared_ptr<Windows*> windows = end->windows.lock();
  if (end->memory.owned && (!windows || is_ending(env))) end->memory.owned->keep_addresses();
  if (!windows) return;
  const auto entry = (*windows)->table_.find(end->id);
  if (entry == (*windows)->table_.end()) return;
  let_go(entry->second);
  (*windows)->erase(entry);
}

}  // namespace kvtier
