// What one environment has: made when the addon is loaded into it, destroyed when it ends. The JavaScript thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "binding/completion_queue.h"
#include "binding/napi_setup.h"
#include "binding/resizable.h"
#include "binding/windows.h"
#include "transfer/device/device_link.h"
#include "transfer/engine.h"

namespace kvtier {

// Memory that a storage borrows: the array is kept referenced, and its buffer seen again before each use.
struct BorrowedRegion {
  Napi::Reference<Napi::Uint8Array> array;
  const void* data = nullptr;
  std::size_t length = 0;
  // Of the regions in one buffer the first has it; none where it cannot be detached.
  Napi::Reference<Napi::ArrayBuffer> buffer;
};

// How an environment ends. First its cleanup hook, registered by initialize(): it closes the queue, then shuts the
// client down, which waits for what still touches this environment's memory. Then Node runs the finalizers of handles
// and windows, and of this object, in an order that is not ours: what they need they share, so none leads to another.
//
// The order of members is the order of destruction in reverse, and it matters: the client calls the queue, so the queue
// goes after it.
struct AddonData {
  explicit AddonData(Napi::Env env);
  ~AddonData();
  AddonData(const AddonData&) = delete;
  AddonData& operator=(const AddonData&) = delete;

  // Makes KvError; empty before initialize(). Last to go: errors may be made by all below.
  Napi::FunctionReference error_maker;
  // Shared with locks of stores, which report their end through it.
  std::shared_ptr<CompletionQueue> queue;
  // Shared with handles, windows and results, which may be finalized later.
  std::shared_ptr<EngineClient> client;
  // By storage id; let go when the storage is destroyed.
  std::unordered_map<std::uint64_t, std::vector<BorrowedRegion>> borrowed;
  // By ordinal: the GPUs that fences were made for, while anybody has memory there.
  std::unordered_map<std::uint32_t, std::weak_ptr<DeviceLink>> links;
  Windows windows;
  ResizableCheck resizable;

#if defined(KVTIER_TESTING)
  // This environment made I/O wait, and would wait for itself when it ends.
  bool holds_io = false;
#endif

  // The cleanup hook.
  static void on_cleanup(void* data) noexcept;
};

[[nodiscard]] AddonData& data_of(Napi::Env env);
// KvError where TypeScript has handed over its maker, a plain Error with the code otherwise.
[[nodiscard]] Napi::Value make_error(Napi::Env env, Code code, const std::string& message);

}  // namespace kvtier
