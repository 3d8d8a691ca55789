// Calls that set an environment up and hand results to it: initialize, openEngine, takeResult, takeMessage; and what
// every started call shares.
#include <new>
#include <string>
#include <utility>

#include "binding/calls.h"
#include "binding/results.h"

namespace kvtier {

EngineClient& client_of(AddonData& data) {
  if (!data.client) fail(Code::kClosed, "openEngine has not been called");
  return *data.client;
}

Expected::Expected(AddonData& data, std::uint32_t ticket) : queue_(*data.queue), ticket_(ticket) {
  queue_.expect(ticket);
}

void start_task(AddonData& data, std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                std::function<TaskOutcome()> body) {
  EngineClient& client = client_of(data);
  Expected expected(data, ticket);
  // No exception may leave the body: the engine has none.
  check(client.start(ticket, lane, std::move(uses), [body = std::move(body)]() -> TaskOutcome {
    try {
      return body();
    } catch (const std::bad_alloc&) {
      // Short, so that it needs no memory itself.
      return {Code::kOutOfMemory, "out of memory", nullptr};
    }
  }));
  expected.started();
}

Napi::Value initialize(AddonData& data, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object settings = read_object(info[0], "settings");
  const Napi::Function maker = read_function(read_property(settings, "makeError"), "settings.makeError");
  const Napi::Function settle = read_function(read_property(settings, "settle"), "settings.settle");
  const Napi::Value completions = read_property(settings, "completions");
  if (data.queue) fail(Code::kInvalidValue, "the binding was initialized before");
  data.resizable.initialize(env);
  static_cast<void>(read_words(completions, "settings.completions"));
  if (data.resizable.is_resizable(completions)) {
    fail(Code::kInvalidType, "settings.completions must not be of a buffer that can be resized");
  }
  const std::span<std::uint32_t> words = read_words(completions, "settings.completions");
  if (words.size() < CompletionQueue::kMinWords) {
    fail(Code::kInvalidValue, "settings.completions must have at least " + std::to_string(CompletionQueue::kMinWords) +
                                  " elements, got " + std::to_string(words.size()));
  }
  data.error_maker = Napi::Persistent(maker);
  data.queue = std::make_shared<CompletionQueue>(env, completions.As<Napi::Uint32Array>(), settle,
                                                 [&data](std::uint64_t id) { data.borrowed.erase(id); });
  // After the thread-safe function was made, so that it runs before Node's hook for that function.
  if (napi_add_env_cleanup_hook(env, &AddonData::on_cleanup, &data) != napi_ok) {
    fail(Code::kInternal, "the cleanup hook could not be registered");
  }
  return env.Undefined();
}

Napi::Value open_engine(AddonData& data, const Napi::CallbackInfo& info) {
  const Napi::Object object = read_object(info[0], "options");
  EngineOptions options;
  options.threads = read_u32(read_property(object, "threads"), "options.threads", 0, kMaxEngineThreads);
  options.read_bytes_in_flight = read_size(read_property(object, "readBytesInFlight"), "options.readBytesInFlight", 1);
  options.write_bytes_in_flight =
      read_size(read_property(object, "writeBytesInFlight"), "options.writeBytesInFlight", 1);
  options.queue_blocks = read_u32(read_property(object, "queueBlocks"), "options.queueBlocks", 1);
  if (!data.queue) fail(Code::kInvalidValue, "initialize has not been called");
  if (data.client) {
    data.client->widen(options);
    return info.Env().Undefined();
  }
  data.client = take_value(EngineClient::open(options, *data.queue));
  return info.Env().Undefined();
}

Napi::Value take_result(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  if (!data.queue) return info.Env().Undefined();
  const std::unique_ptr<Payload> payload = data.queue->take_result(ticket);
  if (!payload) return info.Env().Undefined();
  return static_cast<ScriptPayload&>(*payload).to_script(data, info.Env());
}

Napi::Value take_message(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  return Napi::String::New(info.Env(), data.queue ? data.queue->take_message(ticket) : std::string());
}

}  // namespace kvtier
