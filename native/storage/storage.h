// A place that holds the slots of one tier for one layer group. The transfer engine calls it from its own threads; the
// engine, not the storage, has the queues. A storage never decides which slot is used: TypeScript does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/status.h"
#include "digest/payload_checksum.h"
#include "digest/sequence_hash.h"
#include "kernels/copy_block.h"
#include "layout/group_shape.h"
#include "memory/device/pinned_memory.h"
#include "memory/host_buffer.h"
#include "platform/cuda/cuda_context.h"

namespace kvtier {

class CufileBuffer;

// What a storage can do; plans are made from these, never from a kind's name.
struct StorageInfo {
  const char* kind = "";
  GroupShape shape;
  std::uint32_t slot_count = 0;
  std::uint64_t slot_stride = 0;  // bytes a slot takes
  bool host_addressable = false;  // view() works: blocks are copied by the CPU
  bool on_device = false;         // device_parts() works: blocks are copied by GPUs
  bool keeps_checksums = false;   // checksum_at()/set_checksum() work
  bool persistent = false;        // write_run()/read_run() work; survives the process
  bool direct_device = false;     // read_run_to_device()/write_run_from_device() work
  bool borrowed = false;          // the memory belongs to whoever lent it
  std::uint64_t disk = 0;         // persistent: which disk it lies on; storages of one disk are taken to stall together
};

// What one device holds of every slot: a layout of the parts of a block that lie there, the addresses of its regions,
// and where their bytes lie in a block of canonical order.
struct DevicePart {
  std::shared_ptr<const CudaContext> context;
  const SlotLayout* layout = nullptr;
  std::span<const std::uint64_t> regions;
  std::uint64_t host_offset = 0;
};

// Where a block's bytes are in device memory for a direct transfer: `slot_stride` bytes in canonical order, at a
// multiple of 4 KiB from the start of registered memory.
struct DevicePayload {
  const CufileBuffer* buffer = nullptr;
  std::uint64_t offset = 0;
};

// What a persistent storage keeps beside a block's bytes.
struct BlockRecord {
  SequenceHash hash{};
  SequenceHash parent{};  // all zero for a sequence's first block
  Checksum checksum{};
  std::uint32_t depth = 0;  // blocks before this one
  std::uint32_t tenant_tag = 0;
  std::uint32_t priority = 0;
  std::uint32_t expires_at_s = 0;  // Unix seconds; 0 = never
  std::uint32_t last_use_s = 0;    // Unix seconds
};

class Storage {
 public:
  virtual ~Storage() = default;
  Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  [[nodiscard]] virtual const StorageInfo& info() const noexcept = 0;

  // host_addressable: the layout and regions of the slots. Any thread.
  [[nodiscard]] virtual SlotView view() const noexcept { return {}; }
  // host_addressable: a share of the regions, which stay where they are until it is let go, also when the storage is
  // gone; nullptr where they are not the storage's own. Any thread.
  [[nodiscard]] virtual std::shared_ptr<HostBuffer> share_memory() const noexcept { return nullptr; }

  // host_addressable: how the slots are registered with the driver for its own copies; nullptr where they are not. Any
  // thread.
  [[nodiscard]] virtual const PinnedMemory* pinned() const noexcept { return nullptr; }

  // on_device: where the slots are, device by device. Any thread.
  [[nodiscard]] virtual std::span<const DevicePart> device_parts() const noexcept { return {}; }
  // on_device: whether memory that was lent is still what it was. The JavaScript thread, before each transfer.
  [[nodiscard]] virtual Status check_memory() const noexcept { return Status::ok(); }

  // keeps_checksums. Different slots from different threads; one slot from one thread at a time.
  [[nodiscard]] virtual Checksum checksum_at(std::uint32_t /*slot*/) const noexcept { return {}; }
  virtual void set_checksum(std::uint32_t /*slot*/, const Checksum& /*checksum*/) noexcept {}

  // persistent. Writes `records.size()` blocks into consecutive slots from `first_slot`: payloads, then records;
  // returns when both are where a SIGKILL cannot reach them. payloads[i] is slot_stride bytes in canonical order, 4 KiB
  // aligned. On failure every block of the run counts as not stored.
  [[nodiscard]] virtual Status write_run(std::uint32_t first_slot, std::span<const std::byte* const> payloads,
                                         std::span<const BlockRecord> records) noexcept;
  // persistent. Reads consecutive slots into payloads[i] (slot_stride bytes each, 4 KiB aligned). The caller verifies
  // against checksum_at().
  [[nodiscard]] virtual Status read_run(std::uint32_t first_slot, std::span<std::byte* const> payloads) noexcept;
  // direct_device. As the two above, between the slots and device memory without a copy in host memory. Neither waits
  // for a stream: what fills the memory has run before, and nothing uses it until the call returns. After a failure the
  // memory of a read holds anything.
  [[nodiscard]] virtual Status write_run_from_device(std::uint32_t first_slot, std::span<const DevicePayload> payloads,
                                                     std::span<const BlockRecord> records) noexcept;
  [[nodiscard]] virtual Status read_run_to_device(std::uint32_t first_slot,
                                                  std::span<const DevicePayload> payloads) noexcept;
  // persistent. Makes the slots' records unreadable, so that a restart does not find them.
  [[nodiscard]] virtual Status erase(std::span<const std::uint32_t> slots) noexcept;
  // persistent. Everything written so far survives a power loss after this.
  [[nodiscard]] virtual Status sync() noexcept;
};

}  // namespace kvtier
