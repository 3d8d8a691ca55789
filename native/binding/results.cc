#include "binding/results.h"

#include <array>
#include <cstring>
#include <utility>

namespace kvtier {
namespace {

// Below this a copy is cheaper than an external buffer and its finalizer.
constexpr std::size_t kSmallestExternalBytes = 64 * 1024;

using Owner = std::shared_ptr<const void>;

Napi::Uint32Array words(Napi::Env env, std::vector<std::uint32_t>&& values) {
  const std::size_t length = values.size();
  return Napi::Uint32Array::New(env, length, adopt_vector(env, std::move(values)), 0);
}

Napi::Uint8Array hash_bytes(Napi::Env env, std::vector<SequenceHash>&& hashes) {
  const std::size_t length = hashes.size() * sizeof(SequenceHash);
  return Napi::Uint8Array::New(env, length, adopt_vector(env, std::move(hashes)), 0);
}

Napi::Object shape_object(Napi::Env env, const GroupShape& shape) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("parts", shape.parts);
  object.Set("layers", shape.layers);
  object.Set("outer", shape.outer);
  object.Set("tokensPerBlock", shape.tokens_per_block);
  object.Set("bytesPerToken", shape.bytes_per_token);
  return object;
}

Napi::Object contents_object(Napi::Env env, SlabContents&& contents) {
  Napi::Object object = Napi::Object::New(env);
  const std::size_t parent_count = contents.parents.size();
  object.Set("hashes", hash_bytes(env, std::move(contents.hashes)));
  object.Set("slots", words(env, std::move(contents.slots)));
  object.Set("parents", Napi::Int32Array::New(env, parent_count, adopt_vector(env, std::move(contents.parents)), 0));
  object.Set("depths", words(env, std::move(contents.depths)));
  object.Set("tenantTags", words(env, std::move(contents.tenant_tags)));
  object.Set("priorities", words(env, std::move(contents.priorities)));
  object.Set("expiresAtS", words(env, std::move(contents.expires_at_s)));
  object.Set("lastUsesS", words(env, std::move(contents.last_uses_s)));
  object.Set("recordsRejected", contents.records_rejected);
  object.Set("recordsSuperseded", contents.records_superseded);
  object.Set("recordsOrphaned", contents.records_orphaned);
  object.Set("recordsUnreadable", contents.records_unreadable);
  return object;
}

Napi::Value measured(Napi::Env env, double figure) {
  return figure > 0 ? Napi::Value(Napi::Number::New(env, figure)) : env.Null();
}

Napi::Object direct_object(Napi::Env env, const DirectReport& report) {
  // In the order of DirectLoad.
  constexpr std::array<const char*, kDirectLoadCount> kNames{"block", "run", "scattered"};
  Napi::Object object = Napi::Object::New(env);
  object.Set("available", report.choice != kNeverDirect);
  object.Set("reason", report.reason);
  for (std::size_t i = 0; i < kDirectLoadCount; ++i) {
    const DirectFigure& figure = report.figures.loads[i];
    Napi::Object load = Napi::Object::New(env);
    load.Set("direct", static_cast<bool>(report.choice[i]));
    load.Set("directGbPerS", measured(env, figure.direct_gigabytes_per_second));
    load.Set("stagedGbPerS", measured(env, figure.staged_gigabytes_per_second));
    object.Set(kNames[i], load);
  }
  return object;
}

}  // namespace

Napi::ArrayBuffer adopt_bytes(Napi::Env env, const void* data, std::size_t size_bytes, Owner owner) {
  if (size_bytes >= kSmallestExternalBytes) {
    auto* hint = new Owner(std::move(owner));
    napi_value buffer = nullptr;
    const napi_status status = napi_create_external_arraybuffer(
        env, const_cast<void*>(data), size_bytes,
        [](napi_env, void*, void* pointer) { delete static_cast<Owner*>(pointer); }, hint, &buffer);
    if (status == napi_ok) return Napi::ArrayBuffer(env, buffer);
    // Refused, as where pointers are compressed: copy.
    owner = std::move(*hint);
    delete hint;
  }
  Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, size_bytes);
  if (size_bytes != 0) std::memcpy(copy.Data(), data, size_bytes);
  return copy;
}

OpenedStorage::~OpenedStorage() {
  if (storage) client->retire(storage);
}

Napi::Value OpenedStorage::make_handle(AddonData& data, Napi::Env env, SlabToken slab) {
  auto box = std::make_unique<StorageBox>();
  box->owner = &data;
  box->client = client;
  box->storage = std::exchange(storage, nullptr);
  box->slab = std::move(slab);
  return wrap(env, std::move(box));
}

Napi::Value OpenedStorage::to_script(AddonData& data, Napi::Env env) {
  return make_handle(data, env, nullptr);
}

Napi::Value OpenedSlab::to_script(AddonData& data, Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  const StorageInfo info = opened.storage->info();
  object.Set("storage", opened.make_handle(data, env, std::exchange(slab, nullptr)));
  object.Set("contents", contents_object(env, std::move(contents)));
  object.Set("shape", shape_object(env, info.shape));
  object.Set("slotCount", named_slots);
  object.Set("direct", direct);
  if (!to_device) {
    object.Set("toDevice", env.Null());
    return object;
  }
  object.Set("toDevice", direct_object(env, *to_device));
  return object;
}

Napi::Value OpenedStore::to_script(AddonData& data, Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  const StoreDirectory& directory = lock->directory();
  object.Set("path", directory.path());
  const auto& secret = directory.secret();
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, secret.size());
  std::memcpy(bytes.Data(), secret.data(), secret.size());
  object.Set("secret", bytes);
  auto box = std::make_unique<StoreBox>();
  box->owner = &data;
  box->lock = std::exchange(lock, nullptr);
  object.Set("store", wrap(env, std::move(box)));
  return object;
}

Napi::Value NumberResult::to_script(AddonData& /*data*/, Napi::Env env) {
  return Napi::Number::New(env, value);
}

Napi::Value HashesResult::to_script(AddonData& /*data*/, Napi::Env env) {
  return hash_bytes(env, std::move(hashes));
}

}  // namespace kvtier
