// The one way from engine threads back to JavaScript. Any thread puts reports in; one thread-safe function an
// environment takes them to the JavaScript thread, which writes them into the completion words and calls `settle`. Only
// plain data travels between threads; tickets, results and messages are touched by the JavaScript thread alone.
//
// - One call of the thread-safe function is under way at most; it takes everything that has come by then.
// - The queue keeps the process alive exactly while a started call has not settled.
// - close() comes from the environment's cleanup hook, registered after the thread-safe function was made so that it
//   runs before Node's own. The mutex is held over every call of the function, so none can be made once it is released.
// - When the words are gone (detached), so is the queue: what was started never reports, and nothing can be started.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "binding/napi_setup.h"
#include "transfer/listener.h"

namespace kvtier {

class CompletionQueue final : public Listener {
 public:
  // Words of a record before its outcomes.
  static constexpr std::size_t kHeaderWords = 4;
  static constexpr std::size_t kMinWords = 64;

  // `words` has at least kMinWords, in a buffer that keeps its size. `on_storage_closed` runs on the JavaScript thread.
  CompletionQueue(Napi::Env env, const Napi::Uint32Array& words, const Napi::Function& settle,
                  std::function<void(std::uint64_t)> on_storage_closed);

  // The JavaScript thread, all of these.
  // A call with this ticket is about to start; fails (as a Fault) when the ticket is 0 or in use, or the words are
  // gone.
  void expect(std::uint32_t ticket);
  // The call was not started after all.
  void forget(std::uint32_t ticket);
  // While `settle` runs: the result and the message of a ticket it was told of; nullptr and empty otherwise.
  [[nodiscard]] std::unique_ptr<Payload> take_result(std::uint32_t ticket);
  [[nodiscard]] std::string take_message(std::uint32_t ticket);
  // The most outcomes that one record can carry.
  [[nodiscard]] std::uint32_t max_outcomes() const noexcept { return max_outcomes_; }
  // Nothing reaches JavaScript any more; what comes is dropped.
  void close() noexcept;

  // Any thread.
  void report(Report&& report) noexcept override;
  void storage_closed(std::uint64_t storage_id) noexcept override;

 private:
  struct Entry {
    Report report;
    std::uint64_t closed_storage = 0;  // not 0: no report
  };
  struct Words {
    std::uint32_t* data = nullptr;
    std::size_t count = 0;
  };

  static void on_call(napi_env env, napi_value callback, void* context, void* data);
  void push(Entry&& entry) noexcept;
  void drain(Napi::Env env);
  // False for what was lost with the words.
  [[nodiscard]] bool is_expected(std::uint32_t ticket) const { return pending_.contains(ticket); }
  // Writes as many records as fit and gives the number of words; takes them off `entries`.
  [[nodiscard]] std::size_t write(std::deque<Entry>& entries, Words words);
  void call_settle(Napi::Env env, std::size_t word_count);
  // What nobody took while settle ran goes, and settled tickets with it.
  void clear_told();
  // The words where they are now; none when their buffer was detached.
  [[nodiscard]] Words current_words() const;
  // The words are gone: every call that has not settled never will, and the process is told so.
  void lose_all(Napi::Env env);
  void keep_alive(bool alive) noexcept;

  std::mutex mutex_;  // guards the four below
  std::deque<Entry> entries_;
  bool scheduled_ = false;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;

  // The JavaScript thread's.
  napi_env env_;
  Napi::Reference<Napi::Uint32Array> words_;
  std::size_t word_count_;
  Napi::FunctionReference settle_;
  std::function<void(std::uint64_t)> on_storage_closed_;
  std::uint32_t max_outcomes_ = 0;
  struct Pending {
    std::string message;
    std::unique_ptr<Payload> payload;
    bool settled = false;
  };
  std::unordered_map<std::uint32_t, Pending> pending_;
  std::vector<std::uint32_t> told_;  // tickets in the words of the settle call that runs
  bool lost_ = false;                // the words are gone
};

}  // namespace kvtier
