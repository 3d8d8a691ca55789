#include "memory/device/device_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "memory/device/ipc_mapping.h"
#include "platform/cuda/cuda_error.h"

namespace kvtier {
namespace {

using cuda::Error;
using cuda::PointerAttribute;

std::string bytes_at(std::uint64_t size_bytes, cuda::DevicePtr address, const CudaContext& context) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(address));
  return std::to_string(size_bytes) + " bytes at " + text + " on device " + std::to_string(context.device().ordinal);
}

// What the driver knows of the allocation that an address lies in.
struct Allocation {
  int ordinal = 0;
  std::uint64_t id = 0;
  cuda::DevicePtr start = 0;
  std::uint64_t size_bytes = 0;
};

// A thread whose current context is this one. kInvalidValue where the address lies in no device memory.
Result<Allocation> find_allocation(const CudaContext& context, cuda::DevicePtr address) {
  const cuda::Functions& functions = context.functions();
  Error error = Error::kSuccess;
  const auto ask = [&](auto& value, PointerAttribute attribute) {
    error = functions.pointer_get_attribute(&value, attribute, address);
    return error == Error::kSuccess;
  };
  auto type = cuda::MemoryType::kHost;
  Allocation found;
  std::size_t size_bytes = 0;
  unsigned long long id = 0;
  if (ask(type, PointerAttribute::kMemoryType) && type != cuda::MemoryType::kDevice) {
    return Status(Code::kInvalidValue, "the memory at that address is not a device's (the driver's memory type is " +
                                           std::to_string(static_cast<unsigned>(type)) + ")");
  }
  if (error != Error::kSuccess || !ask(found.ordinal, PointerAttribute::kDeviceOrdinal) ||
      !ask(found.start, PointerAttribute::kRangeStart) || !ask(size_bytes, PointerAttribute::kRangeSize) ||
      !ask(id, PointerAttribute::kBufferId)) {
    if (error == Error::kInvalidValue) {
      return Status(Code::kInvalidValue, "the driver knows no memory at that address; it was freed, or never was any");
    }
    return cuda::to_status(functions, error, "cuPointerGetAttribute");
  }
  found.size_bytes = size_bytes;
  found.id = id;
  return found;
}

// Whether a range lies in the allocation, on the context's device.
Status check_range(const CudaContext& context, const Allocation& allocation, cuda::DevicePtr address,
                   std::uint64_t size_bytes) {
  if (allocation.ordinal != context.device().ordinal) {
    return Status(Code::kInvalidValue, "the memory lies on device " + std::to_string(allocation.ordinal));
  }
  const std::uint64_t offset = address - allocation.start;  // of an address before it: more than it has
  const std::uint64_t rest = allocation.size_bytes - std::min(offset, allocation.size_bytes);
  if (size_bytes > rest) {
    return Status(Code::kInvalidValue, "the allocation has " + std::to_string(allocation.size_bytes) +
                                           " bytes, of which " + std::to_string(rest) + " follow the address");
  }
  return Status::ok();
}

Status prefixed(const std::string& what, const Status& status) {
  return Status(status.code(), what + ": " + status.message());
}

Status nothing_asked() {
  return Status(Code::kInvalidValue, "0 bytes of device memory asked for; at least 1 is needed");
}

Status allocation_failed(const CudaContext& context, Error error, std::uint64_t size_bytes) {
  const cuda::Functions& functions = context.functions();
  const std::string what =
      "cuMemAlloc of " + std::to_string(size_bytes) + " bytes on device " + std::to_string(context.device().ordinal);
  const Status failed = cuda::to_status(functions, error, what);
  std::size_t free = 0;
  std::size_t total = 0;
  if (error != Error::kOutOfMemory || functions.mem_get_info(&free, &total) != Error::kSuccess) return failed;
  return Status(failed.code(), failed.message() + "; " + std::to_string(free) + " of its " + std::to_string(total) +
                                   " bytes are free");
}

}  // namespace

Result<DeviceMemory> DeviceMemory::allocate(std::shared_ptr<const CudaContext> context, std::uint64_t size_bytes) {
  if (size_bytes == 0) return nothing_asked();
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  cuda::DevicePtr address = 0;
  const Error error = context->functions().mem_alloc(&address, size_bytes);
  if (error != Error::kSuccess) return allocation_failed(*context, error, size_bytes);
  return DeviceMemory(std::move(context), Origin::kOwned, address, size_bytes);
}

Result<DeviceMemory> DeviceMemory::borrow(std::shared_ptr<const CudaContext> context, cuda::DevicePtr address,
                                          std::uint64_t size_bytes) {
  if (size_bytes == 0) return nothing_asked();
  const std::string what = "device memory to borrow, " + bytes_at(size_bytes, address, *context);
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  const auto allocation = find_allocation(*context, address);
  if (!allocation) return prefixed(what, allocation.status());
  if (Status status = check_range(*context, allocation.value(), address, size_bytes); !status) {
    return prefixed(what, status);
  }
  DeviceMemory memory(std::move(context), Origin::kBorrowed, address, size_bytes);
  memory.allocation_id_ = allocation.value().id;
  return memory;
}

Result<DeviceMemory> DeviceMemory::open(std::shared_ptr<const CudaContext> context, const IpcRange& range) {
  if (range.size_bytes == 0) return nothing_asked();
  auto mapping = IpcMapping::open(context, range.handle, range.owner);
  if (!mapping) return mapping.status();
  const std::string what = "memory of another process, " + std::to_string(range.size_bytes) + " bytes from byte " +
                           std::to_string(range.offset) + " of its allocation on device " +
                           std::to_string(context->device().ordinal);
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  const cuda::DevicePtr base = mapping.value()->base();
  const auto allocation = find_allocation(*context, base);
  if (!allocation) return prefixed(what, allocation.status());
  const cuda::DevicePtr address = base + range.offset;
  if (Status status = check_range(*context, allocation.value(), address, range.size_bytes); !status) {
    return prefixed(what, status);
  }
  DeviceMemory memory(std::move(context), Origin::kOpened, address, range.size_bytes);
  memory.allocation_id_ = allocation.value().id;
  memory.mapping_ = std::move(mapping).value();
  return memory;
}

DeviceMemory::DeviceMemory(std::shared_ptr<const CudaContext> context, Origin origin, cuda::DevicePtr address,
                           std::uint64_t size_bytes) noexcept
    : context_(std::move(context)), origin_(origin), address_(address), size_bytes_(size_bytes) {}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : context_(std::move(other.context_)),
      mapping_(std::move(other.mapping_)),
      origin_(other.origin_),
      address_(std::exchange(other.address_, 0)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      allocation_id_(std::exchange(other.allocation_id_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  if (this == &other) return *this;
  free();
  mapping_ = std::move(other.mapping_);
  context_ = std::move(other.context_);
  origin_ = other.origin_;
  address_ = std::exchange(other.address_, 0);
  size_bytes_ = std::exchange(other.size_bytes_, 0);
  allocation_id_ = std::exchange(other.allocation_id_, 0);
  return *this;
}

DeviceMemory::~DeviceMemory() {
  free();
}

void DeviceMemory::free() noexcept {
  if (origin_ != Origin::kOwned || context_ == nullptr) return;
  // A lost device fails both; the driver has then freed the memory with the context.
  const auto current = CurrentContext::enter(*context_);
  static_cast<void>(context_->functions().mem_free(address_));
}

Status DeviceMemory::check() const {
  if (origin_ == Origin::kOwned) return Status::ok();
  if (mapping_ != nullptr) {
    if (Status status = mapping_->check_owner(); !status) return status;
  }
  const auto current = CurrentContext::enter(*context_);
  if (!current) return current.status();
  const cuda::Functions& functions = context_->functions();
  unsigned long long id = 0;
  const Error error = functions.pointer_get_attribute(&id, PointerAttribute::kBufferId, address_);
  if (error == Error::kSuccess && id == allocation_id_) return Status::ok();
  const std::string what = "borrowed device memory, " + bytes_at(size_bytes_, address_, *context_);
  if (error == Error::kSuccess) {
    return Status(Code::kInvalidValue, what + ": it was freed, and another allocation has its addresses now");
  }
  if (error == Error::kInvalidValue) return Status(Code::kInvalidValue, what + ": it was freed");
  return cuda::to_status(functions, error, what + ": cuPointerGetAttribute");
}

Result<IpcRange> DeviceMemory::share() const {
  const std::string what = "sharing device memory, " + bytes_at(size_bytes_, address_, *context_);
  const auto refused = [&](const char* why) { return Status(Code::kUnsupported, what + ": " + why); };
  if (origin_ == Origin::kOpened) return refused("it is another process's, which alone can share it");
  const auto current = CurrentContext::enter(*context_);
  if (!current) return current.status();
  const cuda::Functions& functions = context_->functions();
  const auto allocation = find_allocation(*context_, address_);
  if (!allocation) return prefixed(what, allocation.status());
  constexpr const char* kVirtual =
      "CUDA's legacy IPC takes only memory of cuMemAlloc or cudaMalloc; in PyTorch, turn expandable_segments off";
  // Drivers differ in how wide a yes they write.
  std::uint64_t capable = 0;
  if (functions.pointer_get_attribute(&capable, PointerAttribute::kIsLegacyIpcCapable, address_) == Error::kSuccess &&
      capable == 0) {
    return refused(kVirtual);
  }
  IpcRange range;
  const Error error = functions.ipc_get_mem_handle(&range.handle, allocation.value().start);
  if (error == Error::kInvalidValue) return refused(kVirtual);
  if (error != Error::kSuccess) return cuda::to_status(functions, error, what + ": cuIpcGetMemHandle");
  range.offset = address_ - allocation.value().start;
  range.size_bytes = size_bytes_;
  range.owner = ::getpid();
  return range;
}

Result<cuda::IpcMemHandle> read_ipc_handle(const std::byte* data, std::size_t length) {
  cuda::IpcMemHandle handle{};
  constexpr std::size_t kPrefix = 2;  // PyTorch's: a version, and what kind of memory it is
  constexpr auto kVersion = std::byte{2};
  if (length == handle.bytes.size()) {
    std::memcpy(handle.bytes.data(), data, length);
    return handle;
  }
  const bool is_versioned = length > kPrefix && data[0] == kVersion;
  if (is_versioned && data[1] == std::byte{'e'}) {
    return Status(Code::kUnsupported,
                  "the handle is of one of PyTorch's expandable segments, which CUDA's legacy IPC cannot share: start "
                  "the process that owns the memory without expandable_segments in PYTORCH_CUDA_ALLOC_CONF");
  }
  if (is_versioned && data[1] == std::byte{'c'} && length == kPrefix + handle.bytes.size()) {
    std::memcpy(handle.bytes.data(), data + kPrefix, handle.bytes.size());
    return handle;
  }
  std::string given = std::to_string(length) + " bytes";
  if (length > 0) given += ", the first of them " + std::to_string(std::to_integer<unsigned>(data[0]));
  return Status(Code::kInvalidValue, "an IPC handle has 64 bytes, or 66 as PyTorch gives it (2, 'c', then the 64); " +
                                         given + ", were given");
}

}  // namespace kvtier
