// The calls of the addon, as lib/native/binding.ts types them, and the entry that all of them share. The JavaScript
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "binding/addon_data.h"
#include "binding/arguments.h"
#include "binding/fault.h"
#include "binding/handles.h"
#include "binding/napi_setup.h"

namespace kvtier {

// Words of one block in a transfer's records: depth, tenant tag, priority, expires at (s), last use (s).
inline constexpr std::size_t kRecordWords = 5;
// Words of one block in a transfer's moves: source slot, via slot, target slot.
inline constexpr std::size_t kMoveWords = 3;
inline constexpr std::size_t kHashBytes = sizeof(SequenceHash);

// A GPU's ordinal is below this.
inline constexpr std::uint32_t kMostDevices = 1024;

using Call = Napi::Value (*)(AddonData& data, const Napi::CallbackInfo& info);

Napi::Value describe(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value initialize(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value open_engine(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_open_memory(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value borrow_memory(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_open_device(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_borrow_device(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_import_device(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value device_ranges(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value share_device(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value read_external(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value make_fence(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value make_ready(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value ready_events(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_measure_device(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value set_device_choices(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_open_store(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_open_slab(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_inspect_slab(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_close(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value take_result(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value take_message(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_transfer(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value cancel(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_seal(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_erase(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_sync(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value open_window(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value close_window(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value open_image(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value image_path(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_read_image(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_cut_image(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_build_image(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_compare_images(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_close_image(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value can_hash_tokens(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value hash_tokens_now(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_hash_tokens(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_fill_pattern(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_check_pattern(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_measure_copy(AddonData& data, const Napi::CallbackInfo& info);
Napi::Value start_probe(AddonData& data, const Napi::CallbackInfo& info);
#if defined(KVTIER_TESTING)
[[nodiscard]] Napi::Object make_testing(Napi::Env env);
#endif

// The environment's client of the engine; fails with kClosed before openEngine().
EngineClient& client_of(AddonData& data);
// Windows on the storage's slots are detached and let go of it.
void close_windows(AddonData& data, const SharedStorage& storage);

// Between the check of a ticket and a successful start: a call that fails in between is not expected to report.
class Expected {
 public:
  Expected(AddonData& data, std::uint32_t ticket);
  ~Expected() {
    if (!started_) queue_.forget(ticket_);
  }
  Expected(const Expected&) = delete;
  Expected& operator=(const Expected&) = delete;
  void started() noexcept { started_ = true; }

 private:
  CompletionQueue& queue_;
  std::uint32_t ticket_;
  bool started_ = false;
};

// Runs `body` on an engine thread and reports through the ticket.
void start_task(AddonData& data, std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                std::function<TaskOutcome()> body);
[[nodiscard]] inline TaskOutcome outcome_of(const Status& status) {
  return {status.code(), status.message(), nullptr};
}

// What every call goes through. Only what JavaScript threw itself, or an error of the project, leaves it.
template <Call call>
Napi::Value entry(const Napi::CallbackInfo& info) {
  const auto thrown = [&](Code code, const std::string& message) {
    const auto* name = static_cast<const char*>(info.Data());
    return Napi::Error(info.Env(), make_error(info.Env(), code, std::string(name) + ": " + message));
  };
  try {
    return call(data_of(info.Env()), info);
  } catch (const Fault& fault) {
    throw thrown(fault.code, fault.message);
  } catch (const Thrown& by_script) {
    throw by_script.error;
  } catch (const std::bad_alloc&) {
    throw thrown(Code::kOutOfMemory, "the arguments' copy does not fit in memory");
  } catch (const std::length_error&) {
    throw thrown(Code::kInvalidValue, "an argument names more than memory can address");
  } catch (const std::exception& error) {
    // A call of Node-API that must not fail has (Napi::Error), or the standard library.
    throw thrown(Code::kInternal, error.what());
  }
}

template <Call call>
void mount(Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New<entry<call>>(exports.Env(), name, const_cast<char*>(name)));
}

}  // namespace kvtier
