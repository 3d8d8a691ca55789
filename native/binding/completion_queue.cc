#include "binding/completion_queue.h"

#include <algorithm>
#include <utility>

#include "binding/addon_data.h"
#include "binding/fault.h"
#include "core/check.h"
#include "transfer/request.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kPhaseDone = 1;
constexpr std::uint32_t kPhaseSettled = 2;
constexpr std::uint32_t kPhaseReady = 4;
constexpr const char* kLost = "the completion words were detached or resized; their calls are lost";

std::size_t words_of(const Report& report) noexcept {
  return CompletionQueue::kHeaderWords + (report.outcomes.size() + 1) / 2;
}

void write_record(const Report& report, std::uint32_t* words) noexcept {
  *words++ = report.ticket;
  *words++ = (report.done ? kPhaseDone : 0) | (report.settled ? kPhaseSettled : 0) | (report.ready ? kPhaseReady : 0);
  *words++ = static_cast<std::uint32_t>(report.code);
  *words++ = static_cast<std::uint32_t>(report.outcomes.size());
  for (std::size_t i = 0; i < report.outcomes.size(); i += 2) {
    const std::uint32_t high = i + 1 < report.outcomes.size() ? report.outcomes[i + 1] : 0u;
    *words++ = report.outcomes[i] | (high << 16);
  }
}

}  // namespace

CompletionQueue::CompletionQueue(Napi::Env env, const Napi::Uint32Array& words, const Napi::Function& settle,
                                 std::function<void(std::uint64_t)> on_storage_closed)
    : env_(env),
      words_(Napi::Persistent(words)),
      word_count_(words.ElementLength()),
      settle_(Napi::Persistent(settle)),
      on_storage_closed_(std::move(on_storage_closed)) {
  const std::size_t outcomes = (word_count_ - kHeaderWords) * 2;
  max_outcomes_ = static_cast<std::uint32_t>(std::min<std::size_t>(outcomes, kMaxTransferBlocks));
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "kvtier"), 0, 1, nullptr, nullptr,
                                      this, &CompletionQueue::on_call, &function_);
  if (status != napi_ok) fail(Code::kInternal, "the thread-safe function could not be made");
  keep_alive(false);
}

void CompletionQueue::expect(std::uint32_t ticket) {
  if (lost_) fail(Code::kDetachedArray, kLost);
  if (ticket == 0) fail(Code::kInvalidValue, "ticket must not be 0");
  if (!pending_.try_emplace(ticket).second) {
    fail(Code::kInvalidValue, "ticket " + std::to_string(ticket) + " is in use");
  }
  if (pending_.size() == 1) keep_alive(true);
}

void CompletionQueue::forget(std::uint32_t ticket) {
  if (pending_.erase(ticket) != 0 && pending_.empty()) keep_alive(false);
}

std::unique_ptr<Payload> CompletionQueue::take_result(std::uint32_t ticket) {
  const auto found = pending_.find(ticket);
  return found == pending_.end() ? nullptr : std::move(found->second.payload);
}

std::string CompletionQueue::take_message(std::uint32_t ticket) {
  const auto found = pending_.find(ticket);
  return found == pending_.end() ? std::string() : std::exchange(found->second.message, {});
}

void CompletionQueue::close() noexcept {
  std::deque<Entry> dropped;  // let go after the lock
  {
    const std::lock_guard guard(mutex_);
    if (std::exchange(closed_, true)) return;
    dropped.swap(entries_);
    napi_release_threadsafe_function(function_, napi_tsfn_abort);
  }
  // The queue may outlive the environment; what belongs to that may not.
  words_.Reset();
  settle_.Reset();
  on_storage_closed_ = nullptr;
}

void CompletionQueue::report(Report&& report) noexcept {
  push({std::move(report), 0});
}

void CompletionQueue::storage_closed(std::uint64_t storage_id) noexcept {
  push({{}, storage_id});
}

void CompletionQueue::push(Entry&& entry) noexcept {
  const std::lock_guard guard(mutex_);
  if (closed_) return;
  entries_.push_back(std::move(entry));
  if (std::exchange(scheduled_, true)) return;
  // Refused only when the environment is going away; what is queued then is dropped by close().
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void CompletionQueue::on_call(napi_env env, napi_value /*callback*/, void* context, void* /*data*/) {
  // Without an environment the function is being emptied at the end, and the queue may be gone.
  if (env == nullptr) return;
  try {
    static_cast<CompletionQueue*>(context)->drain(Napi::Env(env));
  } catch (const Napi::Error&) {
    // The environment is going away: nobody is left to tell.
  } catch (...) {
    KVTIER_CHECK(false);
  }
}

void CompletionQueue::drain(Napi::Env env) {
  std::deque<Entry> entries;
  {
    const std::lock_guard guard(mutex_);
    if (closed_) return;
    entries.swap(entries_);
    scheduled_ = false;
  }
  while (!entries.empty()) {
    const Napi::HandleScope scope(env);
    if (entries.front().closed_storage != 0) {
      on_storage_closed_(entries.front().closed_storage);
      entries.pop_front();
      continue;
    }
    if (!is_expected(entries.front().report.ticket)) {
      entries.pop_front();
      continue;
    }
    const Words words = current_words();
    if (words.data == nullptr) {
      lose_all(env);
      continue;
    }
    call_settle(env, write(entries, words));
    clear_told();
  }
}

std::size_t CompletionQueue::write(std::deque<Entry>& entries, Words words) {
  std::size_t used = 0;
  while (!entries.empty() && entries.front().closed_storage == 0 && is_expected(entries.front().report.ticket)) {
    Report& report = entries.front().report;
    const std::size_t needed = words_of(report);
    if (needed > words.count - used) break;
    write_record(report, words.data + used);
    used += needed;
    const auto found = pending_.find(report.ticket);
    found->second.payload = std::move(report.payload);
    if (!report.message.empty()) found->second.message = std::move(report.message);
    found->second.settled = report.settled;
    told_.push_back(report.ticket);
    entries.pop_front();
  }
  KVTIER_CHECK(used != 0);
  return used;
}

void CompletionQueue::call_settle(Napi::Env env, std::size_t word_count) {
  try {
    settle_.Value().Call({Napi::Number::New(env, static_cast<double>(word_count))});
  } catch (const Napi::Error& error) {
    // settle must not throw; what it throws all the same is an uncaught exception of the process, as on any callback.
    napi_fatal_exception(env, error.Value());
  }
}

void CompletionQueue::clear_told() {
  for (const std::uint32_t ticket : std::exchange(told_, {})) {
    const auto found = pending_.find(ticket);
    if (found == pending_.end()) continue;
    found->second.payload.reset();
    found->second.message.clear();
    if (found->second.settled) forget(ticket);
  }
}

CompletionQueue::Words CompletionQueue::current_words() const {
  std::size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env_, words_.Value(), nullptr, &length, &data, nullptr, nullptr) != napi_ok) return {};
  if (length < word_count_) return {};
  return {static_cast<std::uint32_t*>(data), word_count_};
}

void CompletionQueue::lose_all(Napi::Env env) {
  lost_ = true;
  pending_.clear();
  keep_alive(false);
  napi_fatal_exception(env, make_error(env, Code::kDetachedArray, kLost));
}

void CompletionQueue::keep_alive(bool alive) noexcept {
  // After close() the function may be gone; nothing is pending then.
  const std::lock_guard guard(mutex_);
  if (closed_) return;
  if (alive) {
    napi_ref_threadsafe_function(env_, function_);
  } else {
    napi_unref_threadsafe_function(env_, function_);
  }
}

}  // namespace kvtier
