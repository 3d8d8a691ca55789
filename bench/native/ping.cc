#include "ping.h"

namespace limits {

Ping::Ping(Napi::Env env, const Napi::Function& callback)
    : function_(Napi::ThreadSafeFunction::New(env, callback, "kvtier ping", 0, 1)), thread_([this] { answer(); }) {}

Ping::~Ping() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  function_.Release();
}

void Ping::send() {
  {
    const std::lock_guard guard(mutex_);
    ++waiting_;
  }
  wake_.notify_one();
}

void Ping::answer() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || waiting_ > 0; });
    if (stopping_) return;
    --waiting_;
    lock.unlock();
    function_.BlockingCall();
    lock.lock();
  }
}

}  // namespace limits
