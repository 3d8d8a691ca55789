#include "binding/addon_data.h"

#if defined(KVTIER_TESTING)
#include "support/faulty-io/faulty_io.h"
#endif

namespace kvtier {

AddonData::AddonData(Napi::Env env) : windows(env) {}

AddonData::~AddonData() {
  // An environment that never came to its hook (initialize() failed) has nothing running, so this is quick.
  on_cleanup(this);
}

void AddonData::on_cleanup(void* pointer) noexcept {
  auto& data = *static_cast<AddonData*>(pointer);
#if defined(KVTIER_TESTING)
  if (data.holds_io) FaultyIo::instance().release();
#endif
  if (data.queue) data.queue->close();
  if (data.client) data.client->shutdown();
}

AddonData& data_of(Napi::Env env) {
  return *env.GetInstanceData<AddonData>();
}

Napi::Value make_error(Napi::Env env, Code code, const std::string& message) {
  const AddonData& data = data_of(env);
  if (!data.error_maker.IsEmpty()) {
    const Napi::Value made =
        data.error_maker.Value().Call({Napi::String::New(env, name_of(code)), Napi::String::New(env, message)});
    if (made.IsObject()) return made;
  }
  Napi::Object error = Napi::Error::New(env, message).Value();
  error.Set("code", name_of(code));
  return error;
}

}  // namespace kvtier
