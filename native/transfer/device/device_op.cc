#include "transfer/device/device_op.h"

#include <chrono>
#include <thread>
#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

// A driver that answers every question with an error for so long is taken to be dead.
constexpr std::chrono::seconds kLongestFailing{1};
constexpr std::chrono::microseconds kPause{20};

Result<bool> is_stream_done(const DeviceLink& link, cuda::Stream stream) {
  const cuda::Functions& functions = link.context()->functions();
  const cuda::Error error = functions.stream_query(stream);
  if (error == cuda::Error::kSuccess) return true;
  if (error == cuda::Error::kNotReady) return false;
  return cuda::to_status(functions, error, "cuStreamQuery");
}

}  // namespace

DeviceOp::~DeviceOp() {
  for (Mark& mark : marks) {
    if (mark.event) mark.link->give_back(*std::move(mark.event));
  }
}

bool DeviceOp::poll() {
  while (!fences.empty()) {
    const Result<bool> passed = fences.back()->is_passed();
    if (passed.is_ok() && !passed.value()) return false;
    fences.pop_back();
    if (!passed.is_ok()) {
      // Nothing was queued behind it.
      fail(passed.status());
      fences.clear();
    }
  }
  while (!marks.empty()) {
    if (!has_come(marks.back())) return false;
    if (marks.back().event) marks.back().link->give_back(*std::move(marks.back().event));
    marks.pop_back();
  }
  return true;
}

// That a question failed does not say that the copies have ended: they would write into slots that others have by then.
// So another question is asked, and asked again; only a lost GPU ends what it was doing.
bool DeviceOp::has_come(Mark& mark) {
  const auto answered = [&mark](bool done) {
    mark.failing_since.reset();
    return done;
  };
  Status status = mark.link->context()->make_current();
  if (status.is_ok() && mark.event) {
    const Result<bool> done = mark.event->is_done();
    if (done.is_ok()) return answered(done.value());
    status = done.status();
  }
  if (status.code() != Code::kDeviceLost) {
    const Result<bool> done = is_stream_done(*mark.link, mark.stream);
    if (done.is_ok()) return answered(done.value());
    status = done.status();
  }
  if (status.code() != Code::kDeviceLost) {
    const auto now = std::chrono::steady_clock::now();
    if (!mark.failing_since) mark.failing_since = now;
    if (now - *mark.failing_since < kLongestFailing) return false;
    status = Status(Code::kDeviceLost, "the GPU's driver answers nothing but errors: " + status.message());
  }
  mark.link->note(status);
  fail(status);
  return true;
}

void DeviceOp::wait() {
  while (!poll()) std::this_thread::sleep_for(kPause);
}

void DeviceOp::fail(const Status& status) {
  for (Outcome& outcome : outcomes) {
    if (code_of(outcome) == Code::kOk || code_of(outcome) == Code::kAborted)
      outcome = make_outcome(status.code(), Stage::kOnGpu);
  }
  if (message.empty()) message = status.message();
  queued_all = false;
  step = DeviceStep::kEnd;
}

}  // namespace kvtier
