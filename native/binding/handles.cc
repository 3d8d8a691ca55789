#include "binding/handles.h"

#include <string>
#include <utility>

#include "binding/arguments.h"
#include "binding/fault.h"

namespace kvtier {
namespace {

// All type tags, so that no value is used twice: an object with a wrong tag would be read as something it is not.
constexpr napi_type_tag kStorageTag = {0x6b76746965720001, 0x9d1f5b1e4c0a4e57};
constexpr napi_type_tag kStoreTag = {0x6b76746965720002, 0x3f8c2a6d71b94be3};
constexpr napi_type_tag kWindowTag = {0x6b76746965720003, 0xc51e07d2a8846f39};

bool has_tag(const Napi::Value& value, const napi_type_tag& tag) {
  if (value.Type() != napi_object) return false;
  bool result = false;
  return napi_check_object_type_tag(value.Env(), value, &tag, &result) == napi_ok && result;
}

template <typename Box>
Napi::Value wrap_box(Napi::Env env, std::unique_ptr<Box> box, const napi_type_tag& tag, napi_finalize finalize) {
  const Napi::Object object = Napi::Object::New(env);
  if (napi_wrap(env, object, box.get(), finalize, nullptr, nullptr) != napi_ok) {
    fail(Code::kInternal, "a handle could not be made");
  }
  static_cast<void>(box.release());
  if (napi_type_tag_object(env, object, &tag) != napi_ok) fail(Code::kInternal, "a handle could not be tagged");
  return object;
}

template <typename Box>
Box& unwrap_box(const Napi::Value& value, const char* name, const napi_type_tag& tag, const char* what) {
  void* box = nullptr;
  if (!has_tag(value, tag) || napi_unwrap(value.Env(), value, &box) != napi_ok) {
    fail(Code::kInvalidType, std::string(name) + " must be a handle of a " + what + ", got " + describe_value(value));
  }
  // The same addon may be loaded twice; the other copy's handles belong to the other copy's engine client.
  if (static_cast<Box*>(box)->owner != &data_of(value.Env())) {
    fail(Code::kInvalidType, std::string(name) + " is a handle of another load of the addon");
  }
  return *static_cast<Box*>(box);
}

// Finalizers run after the environment's data may be gone: they use nothing but the box.
void finalize_storage(napi_env /*env*/, void* pointer, void* /*hint*/) {
  const std::unique_ptr<StorageBox> box(static_cast<StorageBox*>(pointer));
  if (box->closed) return;
  box->client->retire(box->storage);
}

void finalize_store(napi_env /*env*/, void* pointer, void* /*hint*/) {
  delete static_cast<StoreBox*>(pointer);
}

}  // namespace

StoreLock::~StoreLock() {
  directory_.reset();
  if (ticket_ == 0) return;
  Report report;
  report.ticket = ticket_;
  report.done = true;
  report.settled = true;
  queue_->report(std::move(report));
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<StorageBox> box) {
  return wrap_box(env, std::move(box), kStorageTag, &finalize_storage);
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<StoreBox> box) {
  return wrap_box(env, std::move(box), kStoreTag, &finalize_store);
}

StorageBox& read_storage(const Napi::Value& value, const char* name) {
  StorageBox& box = unwrap_box<StorageBox>(value, name, kStorageTag, "storage");
  if (box.closed) fail(Code::kClosed, std::string(name) + " was closed");
  return box;
}

StoreBox& read_store(const Napi::Value& value, const char* name) {
  StoreBox& box = unwrap_box<StoreBox>(value, name, kStoreTag, "store");
  if (!box.lock) fail(Code::kClosed, std::string(name) + " was closed");
  return box;
}

bool is_storage(const Napi::Value& value) {
  return has_tag(value, kStorageTag);
}

// What is wrapped is the number itself, not a pointer to anything.
void number_window(const Napi::ArrayBuffer& buffer, std::uint64_t number) {
  const napi_env env = buffer.Env();
  if (napi_wrap(env, buffer, reinterpret_cast<void*>(number), nullptr, nullptr, nullptr) != napi_ok ||
      napi_type_tag_object(env, buffer, &kWindowTag) != napi_ok) {
    fail(Code::kInternal, "a window could not be numbered");
  }
}

std::uint64_t number_of_window(const Napi::Value& value) {
  void* number = nullptr;
  if (!has_tag(value, kWindowTag) || napi_unwrap(value.Env(), value, &number) != napi_ok) return 0;
  return reinterpret_cast<std::uint64_t>(number);
}

}  // namespace kvtier
