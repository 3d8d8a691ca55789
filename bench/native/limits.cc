// The benchmark limits as a bare Node-API addon, typed in bench/harness/limits.ts: plain loops that show what the
// machine can do, for the benchmarks to divide by. Never part of the package. The JavaScript thread, which waits for
// each.
#include <napi.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "clock.h"
#include "copy_limit.h"
#include "device_limit.h"
#include "device_work.h"
#include "disk_limit.h"
#include "hash_limit.h"
#include "ping.h"
#include "record_table.h"
#include "table_limit.h"

namespace limits {
namespace {

using Napi::CallbackInfo;
using Napi::Value;

struct Closable {
  virtual ~Closable() = default;
  virtual void close() = 0;
};

void require_ok(Napi::Env env, const kvtier::Status& status) {
  if (!status.is_ok()) throw Napi::Error::New(env, status.message());
}

// Wall seconds and processor seconds.
Value to_value(Napi::Env env, const Elapsed& elapsed) {
  auto values = Napi::Float64Array::New(env, 2);
  values[0] = elapsed.wall_seconds;
  values[1] = elapsed.cpu_seconds;
  return values;
}

// What a handle holds, so that its memory and files go when it is closed and not when it is collected.
template <typename T>
struct Held final : Closable {
  explicit Held(std::unique_ptr<T> held) : limit(std::move(held)) {}
  void close() override { limit.reset(); }
  std::unique_ptr<T> limit;
};

template <typename T>
Value wrap(Napi::Env env, std::unique_ptr<T> limit) {
  return Napi::External<Closable>::New(env, new Held<T>(std::move(limit)),
                                       [](Napi::Env, Closable* held) { delete held; });
}

// The argument, the first one by default, is a handle of this very kind.
template <typename T>
T& unwrap(const CallbackInfo& info, std::size_t index = 0) {
  auto& held = static_cast<Held<T>&>(*info[index].As<Napi::External<Closable>>().Data());
  if (held.limit == nullptr) throw Napi::Error::New(info.Env(), "the limit was closed");
  return *held.limit;
}

template <typename Array>
auto span_of(const Value& value) {
  auto array = value.As<Array>();
  return std::span(array.Data(), array.ElementLength());
}

double number_at(const CallbackInfo& info, std::size_t index) {
  return info[index].As<Napi::Number>().DoubleValue();
}

std::size_t size_at(const CallbackInfo& info, std::size_t index) {
  return static_cast<std::size_t>(number_at(info, index));
}

Value thread_cpu(const CallbackInfo& info) {
  return Napi::Number::New(info.Env(), thread_cpu_seconds());
}

Value process_cpu(const CallbackInfo& info) {
  return Napi::Number::New(info.Env(), process_cpu_seconds());
}

// (fragment bytes, fragments a block, blocks)
Value open_copy(const CallbackInfo& info) {
  auto limit = CopyLimit::make(size_at(info, 0), size_at(info, 1), size_at(info, 2));
  require_ok(info.Env(), limit.status());
  return wrap(info.Env(), std::move(limit).value());
}

// (handle, threads, scatters)
Value run_copy(const CallbackInfo& info) {
  const Way way = info[2].As<Napi::Boolean>() ? Way::kScatter : Way::kGather;
  return to_value(info.Env(), unwrap<CopyLimit>(info).run(static_cast<unsigned>(size_at(info, 1)), way));
}

// (handle)
Value run_checked_kernel(const CallbackInfo& info) {
  return to_value(info.Env(), unwrap<CopyLimit>(info).run_checked_kernel());
}

// (driver's library, device, bytes of a run, runs a block, blocks, scattered)
Value open_device(const CallbackInfo& info) {
  auto limit = DeviceLimit::make(info[0].As<Napi::String>(), static_cast<int>(number_at(info, 1)),
                                 {.run_bytes = size_at(info, 2),
                                  .run_count = size_at(info, 3),
                                  .block_count = size_at(info, 4),
                                  .scattered = info[5].As<Napi::Boolean>()});
  require_ok(info.Env(), limit.status());
  return wrap(info.Env(), std::move(limit).value());
}

DeviceWay way_at(const CallbackInfo& info, std::size_t index) {
  const auto way = device_way_of(info[index].As<Napi::String>().Utf8Value());
  require_ok(info.Env(), way.status());
  return way.value();
}

// (handle, way, to the device, thread blocks of a kernel) -> null where the way cannot be gone here
Value run_device(const CallbackInfo& info) {
  const auto elapsed = unwrap<DeviceLimit>(info).run(way_at(info, 1), info[2].As<Napi::Boolean>(),
                                                     static_cast<unsigned>(size_at(info, 3)));
  if (elapsed.status().code() == kvtier::Code::kUnsupported) return info.Env().Null();
  require_ok(info.Env(), elapsed.status());
  return to_value(info.Env(), elapsed.value());
}

// (handle, way, to the device, thread blocks of a kernel) -> whether every byte arrives, null as above
Value is_device_right(const CallbackInfo& info) {
  const auto right = unwrap<DeviceLimit>(info).is_right(way_at(info, 1), info[2].As<Napi::Boolean>(),
                                                        static_cast<unsigned>(size_at(info, 3)));
  if (right.status().code() == kvtier::Code::kUnsupported) return info.Env().Null();
  require_ok(info.Env(), right.status());
  return Napi::Boolean::New(info.Env(), right.value());
}

// (handle away, handle towards, way, thread blocks of a kernel), null as above
Value run_devices(const CallbackInfo& info) {
  const auto elapsed = DeviceLimit::run_both(unwrap<DeviceLimit>(info), unwrap<DeviceLimit>(info, 1), way_at(info, 2),
                                             static_cast<unsigned>(size_at(info, 3)));
  if (elapsed.status().code() == kvtier::Code::kUnsupported) return info.Env().Null();
  require_ok(info.Env(), elapsed.status());
  return to_value(info.Env(), elapsed.value());
}

// The same -> whether every byte of both arrives
Value are_devices_right(const CallbackInfo& info) {
  const auto right = DeviceLimit::are_right(unwrap<DeviceLimit>(info), unwrap<DeviceLimit>(info, 1), way_at(info, 2),
                                            static_cast<unsigned>(size_at(info, 3)));
  if (right.status().code() == kvtier::Code::kUnsupported) return info.Env().Null();
  require_ok(info.Env(), right.status());
  return Napi::Boolean::New(info.Env(), right.value());
}

// (driver's library, device, rows of a matrix) -> null where there is no such kernel
Value open_work(const CallbackInfo& info) {
  auto work = DeviceWork::make(info[0].As<Napi::String>(), static_cast<int>(number_at(info, 1)),
                               static_cast<std::uint32_t>(size_at(info, 2)));
  if (work.status().code() == kvtier::Code::kUnsupported) return info.Env().Null();
  require_ok(info.Env(), work.status());
  return wrap(info.Env(), std::move(work).value());
}

// (handle, products)
void start_work(const CallbackInfo& info) {
  require_ok(info.Env(), unwrap<DeviceWork>(info).start(static_cast<unsigned>(size_at(info, 1))));
}

// (handle) -> whether all products have run
Value is_work_done(const CallbackInfo& info) {
  const auto done = unwrap<DeviceWork>(info).is_done();
  require_ok(info.Env(), done.status());
  return Napi::Boolean::New(info.Env(), done.value());
}

// (handle) -> seconds
Value finish_work(const CallbackInfo& info) {
  const auto seconds = unwrap<DeviceWork>(info).finish();
  require_ok(info.Env(), seconds.status());
  return Napi::Number::New(info.Env(), seconds.value());
}

// (handle) -> whether the last product is right
Value is_work_right(const CallbackInfo& info) {
  const auto right = unwrap<DeviceWork>(info).is_right();
  require_ok(info.Env(), right.status());
  return Napi::Boolean::New(info.Env(), right.value());
}

// (path, bytes)
Value open_disk(const CallbackInfo& info) {
  auto limit = DiskLimit::make(info[0].As<Napi::String>(), size_at(info, 1));
  require_ok(info.Env(), limit.status());
  return wrap(info.Env(), std::move(limit).value());
}

// (handle)
Value is_direct(const CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), unwrap<DiskLimit>(info).direct());
}

// (handle, bytes of one operation, threads, writes)
Value run_disk(const CallbackInfo& info) {
  const auto elapsed = unwrap<DiskLimit>(info).run(size_at(info, 1), static_cast<unsigned>(size_at(info, 2)),
                                                   info[3].As<Napi::Boolean>());
  require_ok(info.Env(), elapsed.status());
  return to_value(info.Env(), elapsed.value());
}

// (parent, tokens, tokens a block, hashes) -> whether the process has SHA-256
Value hash_tokens(const CallbackInfo& info) {
  const auto tokens = span_of<Napi::Uint32Array>(info[1]);
  const auto hashes = span_of<Napi::Uint8Array>(info[3]);
  const bool hashed = hash_chain(span_of<Napi::Uint8Array>(info[0]).data(), tokens.data(), size_at(info, 2),
                                 hashes.size() / 32, hashes.data());
  return Napi::Boolean::New(info.Env(), hashed);
}

// (hashes)
Value open_table(const CallbackInfo& info) {
  auto table = TableLimit::make(span_of<Napi::Uint8Array>(info[0]));
  require_ok(info.Env(), table.status());
  return wrap(info.Env(), std::move(table).value());
}

// (handle, hashes, numbers found) -> how many leading hashes are there
Value find_leading(const CallbackInfo& info) {
  const auto hashes = span_of<Napi::Uint8Array>(info[1]);
  const auto found = span_of<Napi::Int32Array>(info[2]);
  const std::size_t count = unwrap<TableLimit>(info).find_leading(hashes, found.data());
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

// (path of a store, blocks a chain, scattered)
void fill_records(const CallbackInfo& info) {
  require_ok(info.Env(), fill_record_table(info[0].As<Napi::String>(), static_cast<std::uint32_t>(size_at(info, 1)),
                                           info[2].As<Napi::Boolean>()));
}

// (path of a table) -> wall seconds, processor seconds
Value read_records(const CallbackInfo& info) {
  std::uint64_t records = 0;
  const auto elapsed = read_record_table(info[0].As<Napi::String>(), records);
  require_ok(info.Env(), elapsed.status());
  return to_value(info.Env(), elapsed.value());
}

// (callback)
Value open_ping(const CallbackInfo& info) {
  return wrap(info.Env(), std::make_unique<Ping>(info.Env(), info[0].As<Napi::Function>()));
}

// (handle)
void send_ping(const CallbackInfo& info) {
  unwrap<Ping>(info).send();
}

// (handle)
void close(const CallbackInfo& info) {
  info[0].As<Napi::External<Closable>>().Data()->close();
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto function) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("threadCpuSeconds", thread_cpu);
  add("processCpuSeconds", process_cpu);
  add("openCopy", open_copy);
  add("runCopy", run_copy);
  add("runCheckedKernel", run_checked_kernel);
  add("openDevice", open_device);
  add("runDevice", run_device);
  add("isDeviceRight", is_device_right);
  add("runDevices", run_devices);
  add("areDevicesRight", are_devices_right);
  add("openWork", open_work);
  add("startWork", start_work);
  add("isWorkDone", is_work_done);
  add("finishWork", finish_work);
  add("isWorkRight", is_work_right);
  add("openDisk", open_disk);
  add("isDirect", is_direct);
  add("runDisk", run_disk);
  add("hashTokens", hash_tokens);
  add("openTable", open_table);
  add("findLeading", find_leading);
  add("fillRecords", fill_records);
  add("readRecords", read_records);
  add("openPing", open_ping);
  add("sendPing", send_ping);
  add("close", close);
  return exports;
}

}  // namespace

NODE_API_MODULE(limits, initialize)

}  // namespace limits
