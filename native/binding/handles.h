// Opaque handles of storages, stores, images and others: plain objects that wrap native ones and carry a type tag, so
// that a wrong object is refused instead of misread. Every tag of the project stands in handles.cc. The JavaScript
// thread; a storage handle that is dropped without a close closes its storage when its transfers have ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "binding/addon_data.h"
#include "binding/napi_setup.h"
#include "images/image.h"
#include "include/kvtier.h"
#include "platform/memory_file.h"
#include "storage/slab/store_directory.h"
#include "transfer/device/fence.h"
#include "transfer/device/ready_events.h"

namespace kvtier {

// An open store directory, shared by its handle and by every slab in it. When the last of them lets go, the lock on the
// directory is released and, if a close waits, it is reported. Any thread.
class StoreLock {
 public:
  StoreLock(std::unique_ptr<StoreDirectory> directory, std::shared_ptr<CompletionQueue> queue)
      : queue_(std::move(queue)), directory_(std::move(directory)) {}
  ~StoreLock();
  StoreLock(const StoreLock&) = delete;
  StoreLock& operator=(const StoreLock&) = delete;

  [[nodiscard]] const StoreDirectory& directory() const noexcept { return *directory_; }
  // The ticket of the close that waits for the end. Called once, before the caller lets go.
  void report_end(std::uint32_t ticket) noexcept { ticket_ = ticket; }

 private:
  std::shared_ptr<CompletionQueue> queue_;
  std::unique_ptr<StoreDirectory> directory_;
  std::uint32_t ticket_ = 0;
};

// As many as there are copies, less the store's own, slabs of a store are not asked to close yet.
using SlabToken = std::shared_ptr<const char>;

// A state image, shared by its handle and the one task that may use it. When the last of them lets go, its memory is
// given back and, if a close waits, it is reported. Any thread.
class SharedImage {
 public:
  SharedImage(MemoryFile file, std::shared_ptr<CompletionQueue> queue)
      : queue_(std::move(queue)), file_(std::move(file)) {}
  ~SharedImage();
  SharedImage(const SharedImage&) = delete;
  SharedImage& operator=(const SharedImage&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return file_->path(); }
  // False where a task has begun and not ended.
  [[nodiscard]] bool begin() noexcept { return !busy_.exchange(true); }
  void end() noexcept { busy_ = false; }
  // As StoreLock has it.
  void report_end(std::uint32_t ticket) noexcept { ticket_ = ticket; }

  // The task's alone, between begin() and end().
  [[nodiscard]] MemoryFile& file() noexcept { return *file_; }
  std::optional<Image> image;  // that was read last, without its tokens

 private:
  std::shared_ptr<CompletionQueue> queue_;
  std::optional<MemoryFile> file_;
  std::atomic<bool> busy_{false};
  std::uint32_t ticket_ = 0;
};

// What a store handle wraps.
struct StoreBox {
  AddonData* owner = nullptr;
  std::shared_ptr<StoreLock> lock;  // null once closed
  // Copied by every slab of this store that is opening, or open and not asked to close.
  SlabToken slabs = std::make_shared<const char>();
};

// What a storage handle wraps.
struct StorageBox {
  AddonData* owner = nullptr;
  std::shared_ptr<EngineClient> client;
  std::shared_ptr<SharedStorage> storage;
  SlabToken slab;  // null for other kinds
  bool closed = false;
};

// What an image handle wraps.
struct ImageBox {
  AddonData* owner = nullptr;
  std::shared_ptr<EngineClient> client;
  std::shared_ptr<SharedImage> image;  // null once closed
};

// What the handles of fences and of a transfer's events wrap.
struct FenceBox {
  AddonData* owner = nullptr;
  std::shared_ptr<const Fence> fence;
};
struct ReadyBox {
  AddonData* owner = nullptr;
  std::shared_ptr<ReadyEvents> ready;
  bool used = false;  // by a transfer: they are recorded once
};

[[nodiscard]] Napi::Value wrap(Napi::Env env, std::unique_ptr<StorageBox> box);
[[nodiscard]] Napi::Value wrap(Napi::Env env, std::unique_ptr<StoreBox> box);
[[nodiscard]] Napi::Value wrap(Napi::Env env, std::unique_ptr<ImageBox> box);
[[nodiscard]] Napi::Value wrap(Napi::Env env, std::unique_ptr<FenceBox> box);
[[nodiscard]] Napi::Value wrap(Napi::Env env, std::unique_ptr<ReadyBox> box);

// The box of a handle of this environment that is not closed. Fails with kInvalidType, kClosed.
[[nodiscard]] StorageBox& read_storage(const Napi::Value& value, const char* name);
[[nodiscard]] StoreBox& read_store(const Napi::Value& value, const char* name);
[[nodiscard]] ImageBox& read_image(const Napi::Value& value, const char* name);
[[nodiscard]] FenceBox& read_fence(const Napi::Value& value, const char* name);
[[nodiscard]] ReadyBox& read_ready(const Napi::Value& value, const char* name);
// What another addon made with kvtier_wrap(). Fails with kInvalidType.
[[nodiscard]] kvtier_pointer read_pointer(const Napi::Value& value, const char* name);
[[nodiscard]] bool is_storage(const Napi::Value& value);

// Numbers a window's buffer, so that it is known again when it has no bytes any more. Numbers of two loads of the addon
// may be the same.
void number_window(const Napi::ArrayBuffer& buffer, std::uint64_t number);
// 0: no window.
[[nodiscard]] std::uint64_t number_of_window(const Napi::Value& value);

}  // namespace kvtier
