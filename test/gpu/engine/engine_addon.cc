// The engine as a Node-API addon, typed in test/gpu/engine/engine.ts. It hands its memory and stream to kvtier as any
// engine does: by native/include/kvtier.h alone. The JavaScript thread.
#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpu/engine/decode_engine.h"
#include "include/kvtier.h"
#include "platform/cuda/cuda_driver.h"

namespace kvtier::engine {
namespace {

using Napi::CallbackInfo;
using Napi::Value;

[[noreturn]] void fail(const CallbackInfo& info, const Status& status) {
  throw Napi::Error::New(info.Env(), status.message());
}

std::uint32_t number_of(const Napi::Object& options, const char* name) {
  return options.Get(name).As<Napi::Number>().Uint32Value();
}

Value wrap(const CallbackInfo& info, const kvtier_pointer& pointer) {
  napi_value value = nullptr;
  if (kvtier_wrap(info.Env(), &pointer, &value) != napi_ok) throw Napi::Error::New(info.Env(), "kvtier_wrap failed");
  return {info.Env(), value};
}

std::span<const std::uint32_t> words(const Value& value) {
  const auto array = value.As<Napi::Uint32Array>();
  return {array.Data(), array.ElementLength()};
}

class Engine : public Napi::ObjectWrap<Engine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {InstanceMethod<&Engine::regions>("regions"), InstanceMethod<&Engine::stream>("stream"),
                        InstanceMethod<&Engine::stream_address>("streamAddress"),
                        InstanceMethod<&Engine::decode>("decode"), InstanceMethod<&Engine::is_done>("isDone"),
                        InstanceMethod<&Engine::take>("take"), InstanceMethod<&Engine::close>("close")});
  }

  explicit Engine(const CallbackInfo& info) : Napi::ObjectWrap<Engine>(info) {
    const auto options = info[0].As<Napi::Object>();
    EngineShape shape;
    shape.layers = number_of(options, "layers");
    shape.width = number_of(options, "width");
    shape.block_tokens = number_of(options, "tokensPerBlock");
    shape.slots = number_of(options, "slots");
    shape.layout = static_cast<KvLayout>(number_of(options, "layout"));
    shape.max_tokens = number_of(options, "maxTokens");
    shape.max_positions = number_of(options, "maxPositions");
    shape.ordinal = options.Get("ordinal").As<Napi::Number>().Int32Value();
    auto engine = DecodeEngine::create(shape, cuda_library_from_environment());
    if (!engine) fail(info, engine.status());
    engine_ = std::move(engine).value();
  }

 private:
  DecodeEngine& engine(const CallbackInfo& info) {
    if (engine_ == nullptr) throw Napi::Error::New(info.Env(), "The engine is closed.");
    return *engine_;
  }

  Napi::Value regions(const CallbackInfo& info) {
    Napi::Array found = Napi::Array::New(info.Env());
    for (const DeviceMemory& region : engine(info).regions()) {
      kvtier_pointer pointer{};
      pointer.size_bytes = sizeof(pointer);
      pointer.kind = KVTIER_MEMORY;
      pointer.address = region.address();
      pointer.bytes = region.size_bytes();
      pointer.ordinal = engine_->shape().ordinal;
      found.Set(found.Length(), wrap(info, pointer));
    }
    return found;
  }

  Napi::Value stream(const CallbackInfo& info) {
    kvtier_pointer pointer{};
    pointer.size_bytes = sizeof(pointer);
    pointer.kind = KVTIER_STREAM;
    pointer.address = reinterpret_cast<std::uintptr_t>(engine(info).stream());
    pointer.ordinal = engine_->shape().ordinal;
    return wrap(info, pointer);
  }

  Napi::Value stream_address(const CallbackInfo& info) {
    return Napi::BigInt::New(info.Env(), std::uint64_t{reinterpret_cast<std::uintptr_t>(engine(info).stream())});
  }

  // (tokens, start, slots, events a layer)
  Napi::Value decode(const CallbackInfo& info) {
    const auto layers = info[3].As<Napi::Array>();
    std::vector<std::vector<cuda::Event>> waits(layers.Length());
    for (std::uint32_t layer = 0; layer < waits.size(); ++layer) {
      const auto events = layers.Get(layer).As<Napi::Array>();
      for (std::uint32_t i = 0; i < events.Length(); ++i) {
        bool lossless = false;
        const std::uint64_t address = events.Get(i).As<Napi::BigInt>().Uint64Value(&lossless);
        waits[layer].push_back(reinterpret_cast<cuda::Event>(static_cast<std::uintptr_t>(address)));
      }
    }
    const auto place =
        engine(info).decode(words(info[0]), info[1].As<Napi::Number>().Uint32Value(), words(info[2]), waits);
    if (!place) fail(info, place.status());
    return Napi::Number::New(info.Env(), place.value());
  }

  Napi::Value is_done(const CallbackInfo& info) {
    const auto done = engine(info).is_done(info[0].As<Napi::Number>().Uint32Value());
    if (!done) fail(info, done.status());
    return Napi::Boolean::New(info.Env(), done.value());
  }

  Napi::Value take(const CallbackInfo& info) {
    const auto outputs = engine(info).take(info[0].As<Napi::Number>().Uint32Value());
    if (!outputs) fail(info, outputs.status());
    auto taken = Napi::BigUint64Array::New(info.Env(), outputs.value().size());
    for (std::size_t i = 0; i < outputs.value().size(); ++i) taken[i] = outputs.value()[i];
    return taken;
  }

  Napi::Value close(const CallbackInfo& info) {
    engine_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<DecodeEngine> engine_;  // null once closed
};

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("Engine", Engine::define(env));
  return exports;
}

NODE_API_MODULE(KVTIER_ADDON_NAME, initialize)

}  // namespace
}  // namespace kvtier::engine
