// Test builds only: faults and holds in the I/O seam, mounted as `testing`.
#if defined(KVTIER_TESTING)

#include "binding/calls.h"
#include "support/faulty-io/faulty_io.h"

namespace kvtier {
namespace {

#if defined(KVTIER_UNVERIFIED)
constexpr bool kVerifies = false;
#else
constexpr bool kVerifies = true;
#endif

Napi::Value set_faults(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  FaultProfile profile;
  if (!info[0].IsNull()) {
    const Napi::Object object = read_object(info[0], "profile");
    const auto chance = [&](const char* name) { return read_number(read_property(object, name), name, 0, 1, 0); };
    profile.seed = read_size(read_property(object, "seed"), "seed");
    profile.read_error = chance("readError");
    profile.write_error = chance("writeError");
    profile.write_no_space = chance("writeNoSpace");
    profile.short_read = chance("shortRead");
    profile.short_write = chance("shortWrite");
    profile.read_flip = chance("readFlip");
    profile.write_flip = chance("writeFlip");
    profile.lost_write = chance("lostWrite");
    profile.misdirected_write = chance("misdirectedWrite");
    const Napi::Value fail_call = read_property(object, "failCall");
    if (!fail_call.IsUndefined()) profile.fail_call = read_size(fail_call, "failCall");
  }
  FaultyIo::instance().set_faults(profile);
  return info.Env().Undefined();
}

Napi::Value io_calls(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(FaultyIo::instance().calls()));
}

Napi::Value faults_injected(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(FaultyIo::instance().faults()));
}

Napi::Value hold_io(AddonData& data, const Napi::CallbackInfo& info) {
  data.holds_io = true;
  FaultyIo::instance().hold();
  return info.Env().Undefined();
}

Napi::Value held_io(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), FaultyIo::instance().held());
}

Napi::Value release_io(AddonData& data, const Napi::CallbackInfo& info) {
  data.holds_io = false;
  FaultyIo::instance().release();
  return info.Env().Undefined();
}

// Fails as the standard library or Node-API may in any call.
Napi::Value fail_with(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::string way = read_string(info[0], "way");
  if (way == "length") throw std::length_error(way);
  if (way == "memory") throw std::bad_alloc();
  if (way == "api") static_cast<void>(info[0].As<Napi::Number>().DoubleValue());  // it is a string
  fail(Code::kInvalidValue, "way is '" + way + "', which is none");
}

}  // namespace

Napi::Object make_testing(Napi::Env env) {
  // Behind the seam before the first file is opened.
  FaultyIo::instance();
  Napi::Object testing = Napi::Object::New(env);
  // setFaults(profile: FaultProfile | null): void
  mount<set_faults>(testing, "setFaults");
  // ioCalls(): number
  mount<io_calls>(testing, "ioCalls");
  // faultsInjected(): number
  mount<faults_injected>(testing, "faultsInjected");
  // holdIo(): void
  mount<hold_io>(testing, "holdIo");
  // heldIo(): number
  mount<held_io>(testing, "heldIo");
  // releaseIo(): void
  mount<release_io>(testing, "releaseIo");
  // failWith(way: 'length' | 'memory' | 'api'): void
  mount<fail_with>(testing, "failWith");
  // readonly verifies: boolean
  testing.Set("verifies", Napi::Boolean::New(env, kVerifies));
  return testing;
}

}  // namespace kvtier

#endif
