// What tasks bring back: made on an engine thread, turned into JavaScript values on the JavaScript thread, once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "binding/addon_data.h"
#include "binding/handles.h"
#include "binding/napi_setup.h"
#include "storage/slab/slab_storage.h"
#include "transfer/device/direct_choice.h"
#include "transfer/listener.h"

namespace kvtier {

// Every payload of this binding is one.
struct ScriptPayload : Payload {
  [[nodiscard]] virtual Napi::Value to_script(AddonData& data, Napi::Env env) = 0;
};

// A storage that was opened and not taken yet; closed again when nobody takes it.
struct OpenedStorage final : ScriptPayload {
  OpenedStorage(std::shared_ptr<EngineClient> client, std::shared_ptr<SharedStorage> storage)
      : client(std::move(client)), storage(std::move(storage)) {}
  ~OpenedStorage() override;
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;
  [[nodiscard]] Napi::Value make_handle(AddonData& data, Napi::Env env, SlabToken slab);

  std::shared_ptr<EngineClient> client;
  std::shared_ptr<SharedStorage> storage;  // null once taken
};

// Which loads go directly from a slab to a device.
struct DirectReport {
  DirectChoice choice = kNeverDirect;
  std::string reason;  // why some do not; empty where all do
  DirectFigures figures;
};

struct OpenedSlab final : ScriptPayload {
  OpenedSlab(std::shared_ptr<EngineClient> client, std::shared_ptr<SharedStorage> storage)
      : opened(std::move(client), std::move(storage)) {}
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  OpenedStorage opened;
  SlabContents contents;
  bool direct = false;
  std::optional<DirectReport> to_device;  // none: not asked
  std::uint32_t named_slots = 0;
  SlabToken slab;  // null when it was opened to look only
};

struct OpenedStore final : ScriptPayload {
  explicit OpenedStore(std::shared_ptr<StoreLock> lock) : lock(std::move(lock)) {}
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  std::shared_ptr<StoreLock> lock;
};

struct NumberResult final : ScriptPayload {
  explicit NumberResult(double value) : value(value) {}
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  double value;
};

struct HashesResult final : ScriptPayload {
  explicit HashesResult(std::vector<SequenceHash>&& hashes) : hashes(std::move(hashes)) {}
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  std::vector<SequenceHash> hashes;
};

// The vector's memory as an ArrayBuffer, without a copy where that is allowed and pays.
[[nodiscard]] Napi::ArrayBuffer adopt_bytes(Napi::Env env, const void* data, std::size_t size_bytes,
                                            std::shared_ptr<const void> owner);

template <typename T>
[[nodiscard]] Napi::ArrayBuffer adopt_vector(Napi::Env env, std::vector<T>&& values) {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto owner = std::make_shared<std::vector<T>>(std::move(values));
  return adopt_bytes(env, owner->data(), owner->size() * sizeof(T), owner);
}

}  // namespace kvtier
