#if defined(__linux__)
#include "platform/cuda/cuda_context.h"

#include <doctest/doctest.h>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fake_library.h"
#include "platform/cuda/cuda_event.h"
#include "platform/cuda/cuda_stream.h"

using kvtier::Code;
using kvtier::CudaContext;
using kvtier::CudaEvent;
using kvtier::CudaStream;
using kvtier::CudaStreamPriority;
using kvtier::CurrentContext;
using kvtier::cuda::Error;
using kvtier::fake::Library;

namespace {

std::shared_ptr<const CudaContext> retained(Library& fake, int ordinal = 0) {
  auto context = CudaContext::retain(fake.driver(), ordinal);
  REQUIRE(context.is_ok());
  fake->calls.clear();
  return std::move(context).value();
}

void fail_calls(Library& fake, const char* function, Error error) {
  fake->failing = function;
  fake->failure = error;
}

const auto kSomebodysContext = reinterpret_cast<kvtier::cuda::Context>(std::uintptr_t{0x77});

}  // namespace

TEST_CASE("a primary context is held once a retain and released at the end") {
  Library fake;
  {
    const auto first = retained(fake);
    const auto second = retained(fake);
    CHECK(fake->retained == 2);
    CHECK(first->handle() == second->handle());
    CHECK(retained(fake, 1)->handle() != first->handle());
    CHECK(fake->retained == 2);
  }
  CHECK(fake->retained == 0);
}

TEST_CASE("a context that cannot be had is a status, and nothing is held") {
  Library fake;
  static_cast<void>(fake.driver());
  fail_calls(fake, "cuDevicePrimaryCtxRetain", Error::kOutOfMemory);
  const auto failed = CudaContext::retain(fake.driver(), 0);
  CHECK(failed.status().code() == Code::kOutOfMemory);
  CHECK(failed.status().message() == "cuDevicePrimaryCtxRetain on device 0: CUDA_ERROR_OUT_OF_MEMORY (out of memory)");
  CHECK(CudaContext::retain(fake.driver(), 9).status().code() == Code::kInvalidValue);
  const auto& absent = kvtier::CudaDriver::get("libkvtier-no-such-driver.so.1");
  CHECK(CudaContext::retain(absent, 0).status().code() == Code::kUnsupported);
  CHECK(fake->retained == 0);
}

TEST_CASE("a scope makes a context current and the former one again at its end, also when scopes nest") {
  Library fake;
  const auto context = retained(fake);
  const auto other = retained(fake, 1);
  fake->current = kSomebodysContext;
  {
    const auto outer = CurrentContext::enter(*context);
    REQUIRE(outer.is_ok());
    CHECK(fake->current == context->handle());
    {
      const auto inner = CurrentContext::enter(*other);
      REQUIRE(inner.is_ok());
      CHECK(fake->current == other->handle());
    }
    CHECK(fake->current == context->handle());
  }
  CHECK(fake->current == kSomebodysContext);
}

TEST_CASE("a scope whose context is current already changes nothing") {
  Library fake;
  const auto context = retained(fake);
  REQUIRE(context->make_current().is_ok());
  fake->calls.clear();
  REQUIRE(CurrentContext::enter(*context).is_ok());
  CHECK(fake->calls == std::vector<std::string>{"cuCtxGetCurrent"});
  CHECK(fake->current == context->handle());
}

TEST_CASE("a scope that cannot be entered restores nothing") {
  Library fake;
  const auto context = retained(fake);
  fake->current = kSomebodysContext;
  fail_calls(fake, "cuCtxGetCurrent", Error::kDeinitialized);
  CHECK(CurrentContext::enter(*context).status().code() == Code::kDeviceLost);
  fail_calls(fake, "cuCtxSetCurrent", Error::kInvalidContext);
  CHECK(CurrentContext::enter(*context).status().code() == Code::kIo);
  CHECK(context->make_current().code() == Code::kIo);
  CHECK(fake->current == kSomebodysContext);
  CHECK(fake->calls.back() == "cuCtxSetCurrent");
}

TEST_CASE("a stream is non-blocking, has the priority asked for, and is made and destroyed in its context") {
  Library fake;
  const auto context = retained(fake);
  fake->current = kSomebodysContext;
  {
    auto normal = CudaStream::create(context, CudaStreamPriority::kNormal);
    REQUIRE(normal.is_ok());
    CHECK(fake->stream_priority == 0);
    CHECK(fake->stream_flags == kvtier::cuda::kStreamNonBlocking);
    auto high = CudaStream::create(context, CudaStreamPriority::kHigh);
    REQUIRE(high.is_ok());
    CHECK(fake->stream_priority == -5);
    CHECK(fake->streams == 2);
    CHECK(fake->current == kSomebodysContext);
    fake->calls.clear();
  }
  CHECK(fake->streams == 0);
  CHECK(fake->current == kSomebodysContext);
  const std::vector<std::string> destroyed = {"cuCtxGetCurrent", "cuCtxSetCurrent", "cuStreamDestroy_v2",
                                              "cuCtxSetCurrent"};
  REQUIRE(fake->calls.size() == 2 * destroyed.size());
  CHECK(std::vector<std::string>(fake->calls.begin(), fake->calls.begin() + 4) == destroyed);
}

TEST_CASE("a context outlives its streams and events, whoever goes last") {
  Library fake;
  std::optional<CudaStream> stream;
  std::optional<CudaEvent> event;
  {
    const auto context = retained(fake);
    stream.emplace(CudaStream::create(context, CudaStreamPriority::kHigh).value());
    event.emplace(CudaEvent::create(context).value());
  }
  CHECK(fake->retained == 1);
  event.reset();
  CHECK(fake->retained == 1);
  fake->calls.clear();
  stream.reset();
  CHECK(fake->retained == 0);
  CHECK(fake->streams == 0);
  CHECK(fake->events == 0);
  CHECK(fake->calls.back() == "cuDevicePrimaryCtxRelease_v2");
}

TEST_CASE("what cannot be made leaves nothing behind: no stream, no event, no context, the former context current") {
  struct Case {
    const char* function;
    bool stream;
  };
  for (const Case& failing :
       {Case{"cuCtxGetCurrent", true}, Case{"cuCtxSetCurrent", true}, Case{"cuCtxGetStreamPriorityRange", true},
        Case{"cuStreamCreateWithPriority", true}, Case{"cuCtxSetCurrent", false}, Case{"cuEventCreate", false}}) {
    CAPTURE(failing.function);
    Library fake;
    auto context = retained(fake);
    fake->current = kSomebodysContext;
    fail_calls(fake, failing.function, Error::kOutOfMemory);
    if (failing.stream) {
      const auto made = CudaStream::create(std::move(context), CudaStreamPriority::kNormal);
      CHECK(made.status().code() == Code::kOutOfMemory);
      CHECK(kvtier::fake::contains(made.status().message(), failing.function));
    } else {
      const auto made = CudaEvent::create(std::move(context));
      CHECK(made.status().code() == Code::kOutOfMemory);
      CHECK(kvtier::fake::contains(made.status().message(), failing.function));
    }
    CHECK(fake->streams == 0);
    CHECK(fake->events == 0);
    CHECK(fake->retained == 0);
    CHECK(fake->current == kSomebodysContext);
  }
}

TEST_CASE("a moved stream or event is destroyed once, and assignment destroys what was there") {
  Library fake;
  const auto context = retained(fake);
  {
    CudaStream first = CudaStream::create(context, CudaStreamPriority::kNormal).value();
    CudaStream second = CudaStream::create(context, CudaStreamPriority::kNormal).value();
    const auto handle = second.handle();
    first = std::move(second);
    CHECK(fake->streams == 1);
    CHECK(first.handle() == handle);
    CudaEvent event = CudaEvent::create(context).value();
    CudaEvent later = CudaEvent::create(context).value();
    event = std::move(later);
    CHECK(fake->events == 1);
  }
  CHECK(fake->streams == 0);
  CHECK(fake->events == 0);
}

TEST_CASE("an event has the flags that its options say") {
  Library fake;
  const auto context = retained(fake);
  CHECK(CudaEvent::create(context).is_ok());
  CHECK(fake->event_flags == (kvtier::cuda::kEventDisableTiming | kvtier::cuda::kEventBlockingSync));
  CHECK(CudaEvent::create(context, {.timing = true, .blocking_sync = false}).is_ok());
  CHECK(fake->event_flags == 0);
  CHECK(CudaEvent::create(context, {.between_processes = true}).is_ok());
  CHECK(fake->event_flags ==
        (kvtier::cuda::kEventDisableTiming | kvtier::cuda::kEventBlockingSync | kvtier::cuda::kEventInterprocess));
}

TEST_CASE("an event that has not happened is not done, and a failed one is a status") {
  Library fake;
  const auto context = retained(fake);
  const CudaEvent event = CudaEvent::create(context).value();
  CHECK(event.is_done().value());
  fail_calls(fake, "cuEventQuery", Error::kNotReady);
  CHECK_FALSE(event.is_done().value());
  fail_calls(fake, "cuEventQuery", Error::kIllegalAddress);
  CHECK(event.is_done().status().code() == Code::kDeviceLost);
}

TEST_CASE("each call of a stream and an event gives the driver's failure with its name") {
  Library fake;
  const auto context = retained(fake);
  const CudaStream stream = CudaStream::create(context, CudaStreamPriority::kNormal).value();
  const CudaEvent event = CudaEvent::create(context).value();
  const auto attempt = [&](const char* function, const auto& call) {
    CAPTURE(function);
    fake->failing.clear();
    CHECK(call().is_ok());
    CHECK(fake->calls.back() == function);
    fail_calls(fake, function, Error::kLaunchFailed);
    const kvtier::Status status = call();
    CHECK(status.code() == Code::kDeviceLost);
    CHECK(kvtier::fake::contains(status.message(), function));
  };
  attempt("cuStreamWaitEvent", [&] { return stream.wait_for(event.handle()); });
  attempt("cuStreamSynchronize", [&] { return stream.synchronize(); });
  attempt("cuEventRecord", [&] { return event.record(stream.handle()); });
  attempt("cuEventSynchronize", [&] { return event.synchronize(); });
  fake->failing.clear();
}

TEST_CASE("a lost device fails no destructor") {
  Library fake;
  {
    const auto context = retained(fake);
    const CudaStream stream = CudaStream::create(context, CudaStreamPriority::kNormal).value();
    const CudaEvent event = CudaEvent::create(context).value();
    fail_calls(fake, "*", Error::kIllegalAddress);
  }
  CHECK(fake->streams == 0);
  CHECK(fake->events == 0);
  CHECK(fake->retained == 0);
}
#endif
