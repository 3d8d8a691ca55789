// An allocation of another process, mapped into one context of this one. Ranges of it share the mapping, also across
// storages: the process has one table of what is open. Any thread.
#pragma once

#include <memory>

#include "core/status.h"
#include "platform/cuda/cuda_context.h"
#include "platform/process_watch.h"

namespace kvtier {

class IpcMapping {
 public:
  // `owner` is the number of the process that lends the memory; 0 when it is not known. Fails as DeviceMemory::open().
  [[nodiscard]] static Result<std::shared_ptr<const IpcMapping>> open(std::shared_ptr<const CudaContext> context,
                                                                      const cuda::IpcMemHandle& handle, int owner);
  IpcMapping(const IpcMapping&) = delete;
  IpcMapping& operator=(const IpcMapping&) = delete;
  // Unmaps it. Precondition: nothing that uses the memory is queued on the device.
  ~IpcMapping();

  // Where the allocation begins.
  [[nodiscard]] cuda::DevicePtr base() const noexcept { return base_; }
  // kIo when the process that lends the memory is known to have ended.
  [[nodiscard]] Status check_owner() const;

 private:
  struct Key;
  struct Table;
  IpcMapping(std::shared_ptr<const CudaContext> context, std::shared_ptr<const ProcessWatch> watch, int owner,
             cuda::DevicePtr base) noexcept;
  static Table& table();

  std::shared_ptr<const CudaContext> context_;
  std::shared_ptr<const ProcessWatch> watch_;  // null when the owner is not known
  int owner_;
  cuda::DevicePtr base_;
};

}  // namespace kvtier
