#include "memory/device/ipc_mapping.h"

#include <unistd.h>

#include <array>
#include <compare>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

Status owner_ended(int owner) {
  return Status(Code::kIo, "process " + std::to_string(owner) +
                               ", which lent device memory to this one, has ended, and its memory with it");
}

// What the driver's answer to opening a handle means to the one who handed the handle over.
Status open_failed(const CudaContext& context, cuda::Error error) {
  const Status failed = cuda::to_status(context.functions(), error,
                                        "cuIpcOpenMemHandle on device " + std::to_string(context.device().ordinal));
  const auto with = [&](Code code, const char* meaning) { return Status(code, failed.message() + ": " + meaning); };
  // Of a driver's many numbers these say something about the handle; what the others say, their text does.
  if (error == cuda::Error::kMapFailed) {
    return with(Code::kIo,
                "the process that lent the memory has ended or freed it, or this process does not see its GPU "
                "(CUDA_VISIBLE_DEVICES, the container's devices)");
  }
  if (error == cuda::Error::kInvalidContext) {
    return with(Code::kUnsupported,
                "the memory is this process's own, which is borrowed by its address, or the two processes do not share "
                "a PID namespace, which CUDA needs for this");
  }
  if (error == cuda::Error::kInvalidHandle || error == cuda::Error::kInvalidValue) {
    return with(Code::kInvalidValue, "the 64 bytes are no handle of device memory");
  }
  return failed;
}

}  // namespace

// The owner belongs to it, so that a mapping never answers for another process than it was opened for.
struct IpcMapping::Key {
  cuda::Context context;
  std::array<unsigned char, 64> handle;
  int owner;

  friend auto operator<=>(const Key&, const Key&) = default;
};

struct IpcMapping::Table {
  // Guards the maps, and is held over the driver's calls that open and close, so that these never cross.
  std::mutex mutex;
  std::map<Key, std::weak_ptr<const IpcMapping>> open;
  std::map<int, std::weak_ptr<const ProcessWatch>> watches;  // one descriptor a process, however many allocations

  std::shared_ptr<const ProcessWatch> watch(int owner) {
    std::weak_ptr<const ProcessWatch>& entry = watches[owner];
    std::shared_ptr<const ProcessWatch> watch = entry.lock();
    // A process that has ended may have left its number to another one.
    if (watch == nullptr || watch->has_ended()) {
      watch = std::make_shared<const ProcessWatch>(owner);
      entry = watch;
    }
    return watch;
  }

  void sweep() {
    std::erase_if(open, [](const auto& entry) { return entry.second.expired(); });
    std::erase_if(watches, [](const auto& entry) { return entry.second.expired(); });
  }
};

IpcMapping::Table& IpcMapping::table() {
  // Never destroyed: other threads may close mappings while the process ends.
  static Table& table = *new Table;
  return table;
}

Result<std::shared_ptr<const IpcMapping>> IpcMapping::open(std::shared_ptr<const CudaContext> context,
                                                           const cuda::IpcMemHandle& handle, int owner) {
  if (owner == ::getpid()) {
    return Status(Code::kUnsupported,
                  "an IPC handle of this process's own memory was to be opened; borrow the memory by its address");
  }
  Table& table = IpcMapping::table();
  const std::lock_guard<std::mutex> lock(table.mutex);
  table.sweep();
  const std::shared_ptr<const ProcessWatch> watch = owner > 0 ? table.watch(owner) : nullptr;
  if (watch != nullptr && watch->has_ended()) return owner_ended(owner);
  const Key key{context->handle(), handle.bytes, owner};
  if (const auto found = table.open.find(key); found != table.open.end()) {
    if (auto mapping = found->second.lock()) return mapping;
  }
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  cuda::DevicePtr base = 0;
  const cuda::Error error = context->functions().ipc_open_mem_handle(&base, handle, cuda::kIpcLazyEnablePeerAccess);
  if (error != cuda::Error::kSuccess) {
    return watch != nullptr && watch->has_ended() ? owner_ended(owner) : open_failed(*context, error);
  }
  std::shared_ptr<const IpcMapping> mapping(new IpcMapping(std::move(context), watch, owner, base));
  table.open[key] = mapping;
  return mapping;
}

IpcMapping::IpcMapping(std::shared_ptr<const CudaContext> context, std::shared_ptr<const ProcessWatch> watch, int owner,
                       cuda::DevicePtr base) noexcept
    : context_(std::move(context)), watch_(std::move(watch)), owner_(owner), base_(base) {}

IpcMapping::~IpcMapping() {
  const std::lock_guard<std::mutex> lock(table().mutex);
  // A lost device fails both; the driver has then unmapped the memory with the context.
  const auto current = CurrentContext::enter(*context_);
  static_cast<void>(context_->functions().ipc_close_mem_handle(base_));
}

Status IpcMapping::check_owner() const {
  if (watch_ != nullptr && watch_->has_ended()) return owner_ended(owner_);
  return Status::ok();
}

}  // namespace kvtier
