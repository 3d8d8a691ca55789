// Test builds only: faults and holds in the I/O seam, and the simulated driver's controls, mounted as `testing`.
#if defined(KVTIER_TESTING)

#include <dlfcn.h>
#include "binding/calls.h"

#include "platform/cuda/cuda_driver.h"
#include "support/faulty-io/faulty_io.h"
#include "support/sim-cuda/sim_control.h"

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

// A control of the simulated driver that KVTIER_CUDA_LIBRARY names; the library is in the process already, or opened
// now and kept.
template <typename Signature>
Signature* simulator(const char* name) {
  const std::string library = cuda_library_from_environment();
  void* const handle = library.empty() ? nullptr : ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* const symbol = handle == nullptr ? nullptr : ::dlsym(handle, name);
  if (symbol == nullptr) fail(Code::kUnsupported, "KVTIER_CUDA_LIBRARY names no simulated driver");
  return reinterpret_cast<Signature*>(symbol);
}

std::string read_sim_function(const Napi::Value& value) {
  return value.IsNull() ? std::string() : read_string(value, "function");
}

Napi::Value sim_hold(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  simulator<decltype(kvtier_sim_hold)>("kvtier_sim_hold")();
  return info.Env().Undefined();
}

Napi::Value sim_release(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  simulator<decltype(kvtier_sim_release)>("kvtier_sim_release")();
  return info.Env().Undefined();
}

Napi::Value sim_fail_call(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::string function = read_sim_function(info[0]);
  const std::uint64_t nth = read_size(info[1], "nth", 1);
  const std::uint32_t code = read_u32(info[2], "code", 1, 999);
  const std::uint64_t times = read_size(info[3], "times");
  simulator<decltype(kvtier_sim_fail_call)>("kvtier_sim_fail_call")(function.empty() ? nullptr : function.c_str(), nth,
                                                                    static_cast<int>(code), times);
  return info.Env().Undefined();
}

Napi::Value sim_fail_work(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::uint64_t nth = read_size(info[0], "nth", 1);
  const std::uint32_t code = read_u32(info[1], "code", 1, 999);
  simulator<decltype(kvtier_sim_fail_work)>("kvtier_sim_fail_work")(nullptr, nth, static_cast<int>(code));
  return info.Env().Undefined();
}

Napi::Value sim_fail_nothing(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  simulator<decltype(kvtier_sim_fail_nothing)>("kvtier_sim_fail_nothing")();
  return info.Env().Undefined();
}

Napi::Value sim_lose_device(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::uint32_t ordinal = read_u32(info[0], "ordinal", 0, kMostDevices - 1);
  const std::uint32_t code = read_u32(info[1], "code", 1, 999);
  simulator<decltype(kvtier_sim_lose_device)>("kvtier_sim_lose_device")(static_cast<int>(ordinal),
                                                                        static_cast<int>(code));
  return info.Env().Undefined();
}

Napi::Value sim_calls(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::string function = read_sim_function(info[0]);
  const std::uint64_t calls =
      simulator<decltype(kvtier_sim_calls)>("kvtier_sim_calls")(function.empty() ? nullptr : function.c_str());
  return Napi::Number::New(info.Env(), static_cast<double>(calls));
}

Napi::Value sim_count(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::string what = read_string(info[0], "what");
  return Napi::Number::New(
      info.Env(), static_cast<double>(simulator<decltype(kvtier_sim_count)>("kvtier_sim_count")(what.c_str())));
}

Napi::Value sim_violations(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::size_t count = simulator<decltype(kvtier_sim_violations)>("kvtier_sim_violations")();
  auto* const text_of = simulator<decltype(kvtier_sim_violation)>("kvtier_sim_violation");
  Napi::Array list = Napi::Array::New(info.Env(), count);
  for (std::size_t i = 0; i < count; ++i) {
    char text[512] = "";
    static_cast<void>(text_of(i, text, sizeof text));
    list.Set(static_cast<std::uint32_t>(i), std::string(text));
  }
  simulator<decltype(kvtier_sim_clear_violations)>("kvtier_sim_clear_violations")();
  return list;
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
  // simHold(): void
  mount<sim_hold>(testing, "simHold");
  // simRelease(): void
  mount<sim_release>(testing, "simRelease");
  // simFailCall(name: string | null, nth: number, code: number, times: number): void
  mount<sim_fail_call>(testing, "simFailCall");
  // simFailWork(nth: number, code: number): void
  mount<sim_fail_work>(testing, "simFailWork");
  // simFailNothing(): void
  mount<sim_fail_nothing>(testing, "simFailNothing");
  // simLoseDevice(ordinal: number, code: number): void
  mount<sim_lose_device>(testing, "simLoseDevice");
  // simCalls(name: string | null): number
  mount<sim_calls>(testing, "simCalls");
  // simCount(what: string): number
  mount<sim_count>(testing, "simCount");
  // simViolations(): string[]
  mount<sim_violations>(testing, "simViolations");
  // readonly verifies: boolean
  testing.Set("verifies", Napi::Boolean::New(env, kVerifies));
  return testing;
}

}  // namespace kvtier

#endif
