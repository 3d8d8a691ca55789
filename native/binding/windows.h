// The windows of an environment: slots that JavaScript sees as ArrayBuffers. The JavaScript thread.
//
// JavaScript may take a window's memory away from it: ArrayBuffer.prototype.transfer() detaches the window and gives
// the memory to a buffer that nobody here knows of. Therefore every window has a share of its memory, which it gives up
// when this side detaches it, and otherwise only when Node says that no buffer has the memory any more (finalize()).
// When the environment ends, Node says so of all windows, though another thread may have been handed the memory: then
// the addresses are kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

#include "binding/napi_setup.h"
#include "memory/host_buffer.h"
#include "transfer/engine.h"

namespace kvtier {

class Windows {
 public:
  explicit Windows(Napi::Env env) noexcept : env_(env) {}
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;

  // What keeps a window's bytes where they are.
  struct Memory {
    std::shared_ptr<HostBuffer> owned;                            // the storage's own
    std::shared_ptr<Napi::Reference<Napi::Uint8Array>> borrowed;  // the array that it borrows
  };

  // A window on a slot of contiguous memory. Fails (as a Fault) when one is open on that slot, and while one that was
  // transferred away has not been collected.
  [[nodiscard]] Napi::ArrayBuffer open(const std::shared_ptr<EngineClient>& client,
                                       const std::shared_ptr<SharedStorage>& storage, std::uint32_t slot,
                                       Memory memory);
  // Detaches the window. Fails with kReleased when it is none, or was closed; with kDetachedArray when its memory was
  // transferred away: the slot is taken until that is collected.
  void close(const Napi::Value& buffer);
  // Detaches the windows on a storage, and lets go of it. What was transferred away keeps the memory mapped.
  void close_all(const SharedStorage& storage);

 private:
  using SlotKey = std::pair<std::uint64_t, std::uint32_t>;  // a storage's id, and a slot

  // What a window's finalizer is given. It may run long after the window was closed, and after the environment's data
  // is gone.
  struct End {
    std::weak_ptr<Windows*> windows;
    std::uint64_t id = 0;
    Memory memory;
  };

  struct Window {
    SlotKey slot;
    Napi::Reference<Napi::ArrayBuffer> buffer;  // weak
    std::shared_ptr<EngineClient> client;
    std::shared_ptr<SharedStorage> storage;  // held; null once it was let go
    End* end = nullptr;                      // lives until its finalizer runs, as this entry does at most
    bool lost = false;                       // transferred away
  };
  // By number. An entry goes when the window is detached here, or when its finalizer runs.
  using Table = std::unordered_map<std::uint64_t, Window>;

  static void finalize(napi_env env, void* address, void* hint);
  void check_free(const SlotKey& slot);
  // False when the window's memory was transferred away: then its entry stays.
  [[nodiscard]] bool detach_or_lose(Table::iterator entry);
  void erase(Table::iterator entry);
  static void let_go(Window& window);

  Napi::Env env_;
  Table table_;
  std::map<SlotKey, std::uint64_t> by_slot_;  // the window that was opened last
  std::uint64_t next_id_ = 1;
  // What a finalizer asks before it touches this object; gone with it.
  std::shared_ptr<Windows*> alive_ = std::make_shared<Windows*>(this);
};

}  // namespace kvtier
