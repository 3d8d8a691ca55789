// The way between a slab's slots and GPUs' memory by cuFile: a part of a SlabStorage, not a storage of its own, for the
// slots, their records and their checksums are the same whichever way the bytes come. Opening and destroying: one
// thread. Moving: several threads at once, for different slots.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "platform/cufile/cufile_handle.h"
#include "storage/slab/slab_file.h"
#include "storage/storage.h"

namespace kvtier {

class DirectSlab {
 public:
  // Slot i of the file is `slot_stride` bytes from i * slot_stride on. Fails as CufileHandle::open(), and with
  // kUnsupported where slots do not begin at multiples of 4 KiB.
  [[nodiscard]] static Result<std::unique_ptr<const DirectSlab>> open(const CufileDriver& driver, const SlabFile& slab,
                                                                      std::uint64_t slot_stride);

  // Consecutive slots. All of the bytes, or an error; slots whose memory is one piece go in one transfer.
  [[nodiscard]] Status read(std::uint32_t first_slot, std::span<const DevicePayload> payloads) const;
  [[nodiscard]] Status write(std::uint32_t first_slot, std::span<const DevicePayload> payloads) const;

 private:
  DirectSlab(CufileHandle&& file, std::uint64_t slot_stride) noexcept;

  CufileHandle file_;
  std::uint64_t slot_stride_;
};

}  // namespace kvtier
