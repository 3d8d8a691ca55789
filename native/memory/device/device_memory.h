// A range of a GPU's memory: allocated here, lent by an engine of this process, or opened from another process. Any
// thread; the bytes are for the driver's copies and kernels alone, the CPU cannot read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"

namespace kvtier {

// Where another process's memory is: the handle stands for a whole allocation, the range lies `offset` bytes into it.
struct IpcRange {
  cuda::IpcMemHandle handle{};
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  int owner = 0;  // number of the process that lends it, so that its end is seen before its memory is used; 0: unknown
};

class IpcMapping;

class DeviceMemory {
 public:
  // Fails: kOutOfMemory (says what was asked and what is free), kDeviceLost, kIo; kInvalidValue for 0 bytes.
  [[nodiscard]] static Result<DeviceMemory> allocate(std::shared_ptr<const CudaContext> context,
                                                     std::uint64_t size_bytes);
  // Memory that stays somebody else's, who keeps it until this is gone. Fails with kInvalidValue when the range is not
  // device memory, lies on another device, or goes beyond its allocation.
  [[nodiscard]] static Result<DeviceMemory> borrow(std::shared_ptr<const CudaContext> context, cuda::DevicePtr address,
                                                   std::uint64_t size_bytes);
  // Memory of another process, mapped until this is gone; ranges of one allocation share the mapping. Fails with
  // kInvalidValue when the range goes beyond the allocation, lies on another device or the handle is none, kUnsupported
  // when the handle is this process's own or cannot be opened here, kIo when its owner has ended or freed the memory.
  [[nodiscard]] static Result<DeviceMemory> open(std::shared_ptr<const CudaContext> context, const IpcRange& range);

  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  // Precondition: nothing that uses the bytes is queued on the device.
  ~DeviceMemory();

  [[nodiscard]] cuda::DevicePtr address() const noexcept { return address_; }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  [[nodiscard]] const std::shared_ptr<const CudaContext>& context() const noexcept { return context_; }
  // Whether somebody else can free it: memory of borrow() and open().
  [[nodiscard]] bool is_borrowed() const noexcept { return origin_ != Origin::kOwned; }
  // The driver's number of the allocation that a borrowed range lies in, the same for all ranges of it; 0 for memory of
  // allocate().
  [[nodiscard]] std::uint64_t allocation_id() const noexcept { return allocation_id_; }

  // Whether the range still lies in the allocation that it was made of: kInvalidValue when that was freed, or its
  // addresses were given to another one; kIo when the process that lent it has ended (IpcRange::owner). A driver does
  // not say that another process has freed its memory: that is that process's promise.
  [[nodiscard]] Status check() const;
  // How another process opens the range. kUnsupported where legacy IPC cannot share it (memory of expandable segments
  // or other virtual memory management, for example).
  [[nodiscard]] Result<IpcRange> share() const;

 private:
  enum class Origin : std::uint8_t { kOwned, kBorrowed, kOpened };

  DeviceMemory(std::shared_ptr<const CudaContext> context, Origin origin, cuda::DevicePtr address,
               std::uint64_t size_bytes) noexcept;
  void free() noexcept;

  std::shared_ptr<const CudaContext> context_;  // null after a move
  std::shared_ptr<const IpcMapping> mapping_;   // kOpened
  Origin origin_;
  cuda::DevicePtr address_;
  std::uint64_t size_bytes_;
  std::uint64_t allocation_id_ = 0;
};

// The handle in what PyTorch gives for a tensor's storage (`untyped_storage()._share_cuda_()`), or a plain handle of 64
// bytes. kUnsupported, with the reason, for expandable segments; kInvalidValue for what is neither.
[[nodiscard]] Result<cuda::IpcMemHandle> read_ipc_handle(const std::byte* data, std::size_t length);

}  // namespace kvtier
