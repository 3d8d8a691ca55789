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
constexpr napi_type_tag kFenceTag = {0x6b76746965720004, 0x71d2c94ea3b0865f};
constexpr napi_type_tag kReadyTag = {0x6b76746965720005, 0xb6094f1d5e2873ca};
constexpr napi_type_tag kImageTag = {0x6b76746965720006, 0x2ad98e6017f5cb34};
constexpr napi_type_tag kPointerTag = {KVTIER_POINTER_TAG_LOWER, KVTIER_POINTER_TAG_UPPER};
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

// Its memory may take milliseconds to give back.
void finalize_image(napi_env /*env*/, void* pointer, void* /*hint*/) {
  const std::unique_ptr<ImageBox> box(static_cast<ImageBox*>(pointer));
  if (box->image) box->client->let_go(std::move(box->image));
}

template <typename Box>
void finalize_box(napi_env /*env*/, void* pointer, void* /*hint*/) {
  delete static_cast<Box*>(pointer);
}

// A close that nothing waits for any more.
void report_closed(CompletionQueue& queue, std::uint32_t ticket) {
  if (ticket == 0) return;
  Report report;
  report.ticket = ticket;
  report.done = true;
  report.settled = true;
  queue.report(std::move(report));
}

}  // namespace

StoreLock::~StoreLock() {
  directory_.reset();
  report_closed(*queue_, ticket_);
}

SharedImage::~SharedImage() {
  file_.reset();
  report_closed(*queue_, ticket_);
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<StorageBox> box) {
  return wrap_box(env, std::move(box), kStorageTag, &finalize_storage);
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<StoreBox> box) {
  return wrap_box(env, std::move(box), kStoreTag, &finalize_box<StoreBox>);
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<ImageBox> box) {
  return wrap_box(env, std::move(box), kImageTag, &finalize_image);
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<FenceBox> box) {
  return wrap_box(env, std::move(box), kFenceTag, &finalize_box<FenceBox>);
}

Napi::Value wrap(Napi::Env env, std::unique_ptr<ReadyBox> box) {
  return wrap_box(env, std::move(box), kReadyTag, &finalize_box<ReadyBox>);
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

ImageBox& read_image(const Napi::Value& value, const char* name) {
  ImageBox& box = unwrap_box<ImageBox>(value, name, kImageTag, "state image");
  if (!box.image) fail(Code::kClosed, std::string(name) + " was closed");
  return box;
}

FenceBox& read_fence(const Napi::Value& value, const char* name) {
  return unwrap_box<FenceBox>(value, name, kFenceTag, "fence");
}

ReadyBox& read_ready(const Napi::Value& value, const char* name) {
  return unwrap_box<ReadyBox>(value, name, kReadyTag, "transfer's events");
}

kvtier_pointer read_pointer(const Napi::Value& value, const char* name) {
  void* data = nullptr;
  if (!has_tag(value, kPointerTag) || napi_unwrap(value.Env(), value, &data) != napi_ok) {
    fail(Code::kInvalidType,
         std::string(name) + " must be a value that kvtier_wrap() of kvtier.h made, got " + describe_value(value));
  }
  const kvtier_pointer pointer = *static_cast<const kvtier_pointer*>(data);
  if (pointer.size_bytes < sizeof(kvtier_pointer) || pointer.kind < KVTIER_MEMORY || pointer.kind > KVTIER_EVENT) {
    fail(Code::kInvalidValue, std::string(name) + " has size_bytes " + std::to_string(pointer.size_bytes) +
                                  " and kind " + std::to_string(pointer.kind) + ", which kvtier.h does not define");
  }
  return pointer;
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
