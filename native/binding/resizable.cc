#include "binding/resizable.h"

#include "binding/fault.h"

namespace kvtier {
namespace {

Napi::Value get(const Napi::Value& object, const char* name) {
  if (!object.IsObject() && !object.IsFunction()) return object.Env().Undefined();
  return object.As<Napi::Object>().Get(name);
}

// The getter of an accessor on a class's prototype; nothing where there is none.
Napi::FunctionReference getter_of(Napi::Env env, const char* class_name, const char* property) {
  const Napi::Value describe = get(get(env.Global(), "Object"), "getOwnPropertyDescriptor");
  const Napi::Value prototype = get(get(env.Global(), class_name), "prototype");
  if (!describe.IsFunction() || !prototype.IsObject()) return {};
  const Napi::Value getter =
      get(describe.As<Napi::Function>().Call({prototype, Napi::String::New(env, property)}), "get");
  return getter.IsFunction() ? Napi::Persistent(getter.As<Napi::Function>()) : Napi::FunctionReference();
}

}  // namespace

void ResizableCheck::initialize(Napi::Env env) {
  resizable_ = getter_of(env, "ArrayBuffer", "resizable");
  growable_ = getter_of(env, "SharedArrayBuffer", "growable");
}

bool ResizableCheck::is_resizable(const Napi::Value& array) const {
  napi_value buffer = nullptr;
  if (napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, nullptr, &buffer, nullptr) != napi_ok) {
    fail(Code::kInvalidType, "a typed array was expected");
  }
  const Napi::Value value(array.Env(), buffer);
  const Napi::FunctionReference& getter = value.IsArrayBuffer() ? resizable_ : growable_;
  if (getter.IsEmpty()) return false;
  return getter.Call(value, {}).ToBoolean();
}

}  // namespace kvtier
