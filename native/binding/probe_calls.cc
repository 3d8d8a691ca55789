// Calls that look at the machine: what it offers, and how fast it copies.
#include <limits>
#include <string>
#include <utility>

#include "binding/calls.h"
#include "binding/results.h"
#include "digest/token_chain.h"
#include "digest/xxh3.h"
#include "kernels/copy_block.h"
#include "platform/probe/probe.h"
#include "transfer/measure_copy.h"

namespace kvtier {
namespace {

struct ProbeResult final : ScriptPayload {
  explicit ProbeResult(ProbeReport&& report) : report(std::move(report)) {}
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  ProbeReport report;
};

// Infinity where there is no limit.
Napi::Value bytes(Napi::Env env, std::uint64_t count) {
  const bool unlimited = count == std::numeric_limits<std::uint64_t>::max();
  return Napi::Number::New(env, unlimited ? std::numeric_limits<double>::infinity() : static_cast<double>(count));
}

Napi::Object availability(Napi::Env env, bool available, const std::string& reason) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("available", available);
  object.Set("reason", reason);
  return object;
}

Napi::Object cuda_object(Napi::Env env, const CudaProbe& cuda) {
  Napi::Object object = availability(env, cuda.available, cuda.reason);
  object.Set("state", name_of(cuda.state));
  object.Set("driverVersion", cuda.driver_version);
  Napi::Array devices = Napi::Array::New(env, cuda.devices.size());
  Napi::Array details = Napi::Array::New(env, cuda.devices.size());
  for (std::uint32_t i = 0; i < cuda.devices.size(); ++i) {
    const CudaDevice& device = cuda.devices[i];
    devices.Set(i, device.name);
    Napi::Object detail = Napi::Object::New(env);
    detail.Set("memoryBytes", bytes(env, device.memory_bytes));
    detail.Set("computeCapability", std::to_string(device.compute_major) + "." + std::to_string(device.compute_minor));
    detail.Set("uuid", device.uuid);
    detail.Set("pciAddress", device.pci_address);
    details.Set(i, detail);
  }
  object.Set("devices", devices);
  object.Set("deviceDetails", details);
  return object;
}

Napi::Value directory_value(Napi::Env env, const std::optional<DirectoryProbe>& directory) {
  if (!directory) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object.Set("path", directory->path);
  object.Set("exists", directory->exists);
  object.Set("writable", directory->writable);
  object.Set("fileSystem", directory->file_system);
  object.Set("freeBytes", bytes(env, directory->free_bytes));
  object.Set("direct", directory->direct);
  object.Set("reason", directory->reason);
  return object;
}

Napi::Value ProbeResult::to_script(AddonData& /*data*/, Napi::Env env) {
  Napi::Object cpu = Napi::Object::New(env);
  cpu.Set("name", report.cpu.name);
  cpu.Set("count", report.cpu.count);
  cpu.Set("checksum", xxh3_variant());
  cpu.Set("copy", streaming_variant());
  Napi::Object memory = Napi::Object::New(env);
  memory.Set("totalBytes", bytes(env, report.memory.total_bytes));
  const auto& available = report.memory.available_bytes;
  memory.Set("availableBytes", available ? bytes(env, *available) : env.Null());
  memory.Set("memlockBytes", bytes(env, report.memory.memlock_bytes));
  Napi::Object huge_pages = Napi::Object::New(env);
  huge_pages.Set("mode", report.huge_pages.mode);
  huge_pages.Set("ok", report.huge_pages.ok);
  huge_pages.Set("reason", report.huge_pages.reason);
  Napi::Object numa = Napi::Object::New(env);
  numa.Set("nodes", report.numa.nodes);
  numa.Set("reason", report.numa.reason);
  const bool sha256 = token_chain_available();

  Napi::Object object = Napi::Object::New(env);
  object.Set("cpu", cpu);
  object.Set("memory", memory);
  object.Set("hugePages", huge_pages);
  object.Set("numa", numa);
  object.Set("cuda", cuda_object(env, report.cuda));
  object.Set("cufile", availability(env, report.cufile.available, report.cufile.reason));
  object.Set("ioUring", availability(env, report.io_uring.available, report.io_uring.reason));
  object.Set("sha256", availability(env, sha256,
                                    sha256 ? ""
                                           : "this Node.js hides OpenSSL's symbols, so tokens are hashed with "
                                             "node:crypto, which is slower; use an official build of Node.js"));
  object.Set("directory", directory_value(env, report.directory));
  return object;
}

}  // namespace

Napi::Value start_measure_copy(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::uint64_t total = read_size(info[1], "totalBytes", 1, kMaxMeasureBytes);
  const std::uint64_t fragment = read_size(info[2], "fragmentBytes", kMinFragmentBytes, kMaxFragmentBytes);
  start_task(data, ticket, Lane::kLong, {}, [total, fragment] {
    const Result<double> measured = measure_copy(total, fragment);
    TaskOutcome outcome = outcome_of(measured.status());
    if (measured.is_ok()) outcome.payload = std::make_unique<NumberResult>(measured.value());
    return outcome;
  });
  return info.Env().Undefined();
}

Napi::Value start_probe(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  ProbeOptions options;
  options.directory = read_string(info[1], "directory");
  options.cuda_library = cuda_library_from_environment();
  options.cufile_library = cufile_library_from_environment();
  start_task(data, ticket, options.directory.empty() ? Lane::kLong : Lane::kDisk, {}, [options] {
    return TaskOutcome{Code::kOk, {}, std::make_unique<ProbeResult>(probe_machine(options))};
  });
  return info.Env().Undefined();
}

}  // namespace kvtier
