// What TypeScript tests need of the simulated driver: an engine's own streams, events and memory, and the controls of
// sim_control.h. A bare Node-API addon, typed in test/support/sim-engine.ts. The JavaScript thread; every call makes
// its GPU's context current and then what was current before.
#include <napi.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "include/kvtier.h"
#include "platform/cuda/cuda_functions.h"
#include "support/sim-cuda/sim_control.h"

namespace kvtier::cuda {
#define KVTIER_SIM_DECLARE(member, base, symbol, version, ...) \
  extern "C" signatures::member member##_symbol asm(symbol);
KVTIER_CUDA_REQUIRED(KVTIER_SIM_DECLARE)
#undef KVTIER_SIM_DECLARE
}  // namespace kvtier::cuda

namespace kvtier {
namespace {

using Napi::CallbackInfo;
using Napi::Value;

void require(const CallbackInfo& info, cuda::Error error, const char* what) {
  if (error == cuda::Error::kSuccess) return;
  throw Napi::Error::New(info.Env(), std::string(what) + " answered " + std::to_string(static_cast<int>(error)));
}

std::uint64_t word(const CallbackInfo& info, std::size_t index) {
  bool lossless = false;
  return info[index].As<Napi::BigInt>().Uint64Value(&lossless);
}
Value to_value(const CallbackInfo& info, std::uint64_t address) {
  return Napi::BigInt::New(info.Env(), address);
}
template <typename Pointer>
Value to_value(const CallbackInfo& info, Pointer* pointer) {
  return to_value(info, static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer)));
}
template <typename Handle>
Handle handle(const CallbackInfo& info, std::size_t index) {
  return reinterpret_cast<Handle>(static_cast<std::uintptr_t>(word(info, index)));
}
std::uint32_t number(const CallbackInfo& info, std::size_t index) {
  return info[index].As<Napi::Number>().Uint32Value();
}
// null and undefined: nullptr.
class Text {
 public:
  explicit Text(const Value& value) : is_given_(value.IsString()) {
    if (is_given_) text_ = value.As<Napi::String>().Utf8Value();
  }
  [[nodiscard]] const char* get() const noexcept { return is_given_ ? text_.c_str() : nullptr; }

 private:
  bool is_given_;
  std::string text_;
};

// The GPU of argument 0, current for one call.
class OnGpu {
 public:
  explicit OnGpu(const CallbackInfo& info) {
    require(info, cuda::init_symbol(0), "cuInit");
    static_cast<void>(cuda::ctx_get_current_symbol(&before_));
    cuda::Context& context = contexts().at(number(info, 0));
    if (context == nullptr) {
      cuda::Device device = 0;
      require(info, cuda::device_get_symbol(&device, static_cast<int>(number(info, 0))), "cuDeviceGet");
      require(info, cuda::device_primary_ctx_retain_symbol(&context, device), "cuDevicePrimaryCtxRetain");
    }
    static_cast<void>(cuda::ctx_set_current_symbol(context));
  }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;
  ~OnGpu() { static_cast<void>(cuda::ctx_set_current_symbol(before_)); }

 private:
  // An engine keeps its context while it lives.
  static std::array<cuda::Context, 8>& contexts() {
    static std::array<cuda::Context, 8> all{};
    return all;
  }

  cuda::Context before_ = nullptr;
};

// ---- An engine's own ----

Value make_stream(const CallbackInfo& info) {
  const OnGpu gpu(info);
  constexpr unsigned kNonBlocking = 1;
  cuda::Stream stream = nullptr;
  require(info, cuda::stream_create_with_priority_symbol(&stream, kNonBlocking, 0), "cuStreamCreateWithPriority");
  return to_value(info, stream);
}

Value destroy_stream(const CallbackInfo& info) {
  const OnGpu gpu(info);
  require(info, cuda::stream_destroy_symbol(handle<cuda::Stream>(info, 1)), "cuStreamDestroy");
  return info.Env().Undefined();
}

// Without timing; 'interprocess' where argument 1 is true.
Value make_event(const CallbackInfo& info) {
  const OnGpu gpu(info);
  constexpr unsigned kDisableTiming = 2;
  constexpr unsigned kInterprocess = 4;
  const bool shared = info[1].ToBoolean();
  cuda::Event event = nullptr;
  require(info, cuda::event_create_symbol(&event, kDisableTiming | (shared ? kInterprocess : 0)), "cuEventCreate");
  return to_value(info, event);
}

Value destroy_event(const CallbackInfo& info) {
  const OnGpu gpu(info);
  require(info, cuda::event_destroy_symbol(handle<cuda::Event>(info, 1)), "cuEventDestroy");
  return info.Env().Undefined();
}

Value event_handle(const CallbackInfo& info) {
  const OnGpu gpu(info);
  cuda::IpcEventHandle found{};
  require(info, cuda::ipc_get_event_handle_symbol(&found, handle<cuda::Event>(info, 1)), "cuIpcGetEventHandle");
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), found.bytes.size());
  std::memcpy(bytes.Data(), found.bytes.data(), found.bytes.size());
  return bytes;
}

Value record(const CallbackInfo& info) {
  const OnGpu gpu(info);
  const auto event = handle<cuda::Event>(info, 1);
  require(info, cuda::event_record_symbol(event, handle<cuda::Stream>(info, 2)), "cuEventRecord");
  return info.Env().Undefined();
}

Value wait(const CallbackInfo& info) {
  const OnGpu gpu(info);
  const auto stream = handle<cuda::Stream>(info, 1);
  require(info, cuda::stream_wait_event_symbol(stream, handle<cuda::Event>(info, 2), 0), "cuStreamWaitEvent");
  return info.Env().Undefined();
}

Value is_done(const CallbackInfo& info) {
  const OnGpu gpu(info);
  const cuda::Error error = cuda::event_query_symbol(handle<cuda::Event>(info, 1));
  if (error != cuda::Error::kNotReady) require(info, error, "cuEventQuery");
  return Napi::Boolean::New(info.Env(), error == cuda::Error::kSuccess);
}

Value allocate(const CallbackInfo& info) {
  const OnGpu gpu(info);
  cuda::DevicePtr pointer = 0;
  require(info, cuda::mem_alloc_symbol(&pointer, number(info, 1)), "cuMemAlloc");
  return to_value(info, pointer);
}

Value free_memory(const CallbackInfo& info) {
  const OnGpu gpu(info);
  require(info, cuda::mem_free_symbol(word(info, 1)), "cuMemFree");
  return info.Env().Undefined();
}

// Queues: (gpu, stream, target, value, bytes).
Value fill(const CallbackInfo& info) {
  const OnGpu gpu(info);
  const auto value = static_cast<unsigned char>(number(info, 3));
  require(info, cuda::memset_d8_async_symbol(word(info, 2), value, number(info, 4), handle<cuda::Stream>(info, 1)),
          "cuMemsetD8Async");
  return info.Env().Undefined();
}

// Queues: (gpu, stream, target, source, bytes), all on devices.
Value copy(const CallbackInfo& info) {
  const OnGpu gpu(info);
  require(info,
          cuda::memcpy_dtod_async_symbol(word(info, 2), word(info, 3), number(info, 4), handle<cuda::Stream>(info, 1)),
          "cuMemcpyDtoDAsync");
  return info.Env().Undefined();
}

// Of the fields of kvtier.h: (kind, address, bytes, ordinal).
Value wrap(const CallbackInfo& info) {
  kvtier_pointer pointer{};
  pointer.size_bytes = sizeof(pointer);
  pointer.kind = number(info, 0);
  pointer.address = word(info, 1);
  pointer.bytes = number(info, 2);
  pointer.ordinal = info[3].As<Napi::Number>().Int32Value();
  napi_value value = nullptr;
  if (kvtier_wrap(info.Env(), &pointer, &value) != napi_ok) throw Napi::Error::New(info.Env(), "kvtier_wrap failed");
  return {info.Env(), value};
}

// ---- Controls ----

Value set(const CallbackInfo& info) {
  kvtier_sim_set(Text(info[0]).get());
  return info.Env().Undefined();
}
Value hold(const CallbackInfo& info) {
  kvtier_sim_hold();
  return info.Env().Undefined();
}
Value release(const CallbackInfo& info) {
  kvtier_sim_release();
  return info.Env().Undefined();
}
Value hold_stream(const CallbackInfo& info) {
  kvtier_sim_hold_stream(handle<cuda::Stream>(info, 0));
  return info.Env().Undefined();
}
Value release_stream(const CallbackInfo& info) {
  kvtier_sim_release_stream(handle<cuda::Stream>(info, 0));
  return info.Env().Undefined();
}
// Operations, or 0 for all that can run.
Value step_any(const CallbackInfo& info) {
  const std::uint32_t most = number(info, 0);
  const std::size_t operations = most == 0 ? std::numeric_limits<std::size_t>::max() : most;
  return Napi::Number::New(info.Env(), static_cast<double>(kvtier_sim_step_any(operations)));
}
Value pending(const CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(kvtier_sim_pending(handle<cuda::Stream>(info, 0))));
}
Value wait_for_work(const CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), kvtier_sim_wait_for_work(number(info, 0), number(info, 1)) != 0);
}
Value fail_call(const CallbackInfo& info) {
  kvtier_sim_fail_call(Text(info[0]).get(), number(info, 1), static_cast<int>(number(info, 2)), number(info, 3));
  return info.Env().Undefined();
}
Value fail_work(const CallbackInfo& info) {
  kvtier_sim_fail_work(Text(info[0]).get(), number(info, 1), static_cast<int>(number(info, 2)));
  return info.Env().Undefined();
}
Value fail_nothing(const CallbackInfo& info) {
  kvtier_sim_fail_nothing();
  return info.Env().Undefined();
}
Value lose_device(const CallbackInfo& info) {
  kvtier_sim_lose_device(static_cast<int>(number(info, 0)), static_cast<int>(number(info, 1)));
  return info.Env().Undefined();
}
Value calls(const CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(kvtier_sim_calls(Text(info[0]).get())));
}
Value count(const CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(kvtier_sim_count(Text(info[0]).get())));
}
Value violations(const CallbackInfo& info) {
  Napi::Array found = Napi::Array::New(info.Env());
  for (std::size_t i = 0; i < kvtier_sim_violations(); ++i) {
    std::vector<char> text(kvtier_sim_violation(i, nullptr, 0) + 1);
    kvtier_sim_violation(i, text.data(), text.size());
    found.Set(static_cast<std::uint32_t>(i), std::string(text.data()));
  }
  return found;
}
Value clear_violations(const CallbackInfo& info) {
  kvtier_sim_clear_violations();
  return info.Env().Undefined();
}

// Device memory now, in no stream's order: (source, bytes), and (target, bytes).
Value read(const CallbackInfo& info) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), number(info, 1));
  if (kvtier_sim_read(word(info, 0), bytes.Data(), bytes.ByteLength()) == 0) {
    throw Napi::Error::New(info.Env(), "The range is not device memory.");
  }
  return bytes;
}
Value write(const CallbackInfo& info) {
  const Napi::Uint8Array bytes = info[1].As<Napi::Uint8Array>();
  if (kvtier_sim_write(word(info, 0), bytes.Data(), bytes.ByteLength()) == 0) {
    throw Napi::Error::New(info.Env(), "The range is not device memory.");
  }
  return info.Env().Undefined();
}

template <Value (*function)(const CallbackInfo&)>
void mount(Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New(exports.Env(), function, name));
}

Napi::Object initialize(Napi::Env /*env*/, Napi::Object exports) {
  mount<&make_stream>(exports, "makeStream");
  mount<&destroy_stream>(exports, "destroyStream");
  mount<&make_event>(exports, "makeEvent");
  mount<&destroy_event>(exports, "destroyEvent");
  mount<&event_handle>(exports, "eventHandle");
  mount<&record>(exports, "record");
  mount<&wait>(exports, "wait");
  mount<&is_done>(exports, "isDone");
  mount<&allocate>(exports, "allocate");
  mount<&free_memory>(exports, "free");
  mount<&fill>(exports, "fill");
  mount<&copy>(exports, "copy");
  mount<&wrap>(exports, "wrap");
  mount<&set>(exports, "set");
  mount<&hold>(exports, "hold");
  mount<&release>(exports, "release");
  mount<&hold_stream>(exports, "holdStream");
  mount<&release_stream>(exports, "releaseStream");
  mount<&step_any>(exports, "stepAny");
  mount<&pending>(exports, "pending");
  mount<&wait_for_work>(exports, "waitForWork");
  mount<&fail_call>(exports, "failCall");
  mount<&fail_work>(exports, "failWork");
  mount<&fail_nothing>(exports, "failNothing");
  mount<&lose_device>(exports, "loseDevice");
  mount<&calls>(exports, "calls");
  mount<&count>(exports, "count");
  mount<&violations>(exports, "violations");
  mount<&clear_violations>(exports, "clearViolations");
  mount<&read>(exports, "read");
  mount<&write>(exports, "write");
  return exports;
}

NODE_API_MODULE(KVTIER_ADDON_NAME, initialize)

}  // namespace
}  // namespace kvtier
