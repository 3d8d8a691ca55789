// Device memory and events that processes share. A handle names a file of the exporting process; whoever opens it finds
// the file through /proc, so that opening fails once that process is dead. Guarded by the simulator's one mutex.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "platform/cuda/cuda_types.h"
#include "support/sim-cuda/event.h"
#include "support/sim-cuda/mapping.h"

namespace kvtier::sim {

// What the 64 bytes of a handle hold.
struct FileHandle {
  std::uint64_t magic = 0;
  std::int32_t process = 0;
  std::int32_t file = 0;          // of that process
  std::uint64_t file_number = 0;  // inode, for descriptors are used again
  std::uint64_t bytes = 0;
  cuda::Uuid device{};
  std::array<unsigned char, 16> reserved{};
};
static_assert(sizeof(FileHandle) == 64);

inline constexpr std::uint64_t kMemoryMagic = 0x316D656D6D69736BU;
inline constexpr std::uint64_t kEventMagic = 0x31747665766D6973U;

// A handle for a file of this process.
[[nodiscard]] FileHandle handle_of(std::uint64_t magic, int file, std::size_t bytes, const cuda::Uuid& device);

// The file, opened in this process; closed when its owner is dead or has closed it.
[[nodiscard]] Fd open_file(const FileHandle& handle);

// Watches a process: readable once it is dead.
[[nodiscard]] Fd watch(int process);

// The memory of a new interprocess event; nullptr when the system has none.
[[nodiscard]] std::shared_ptr<SharedEvent> make_shared_event();

}  // namespace kvtier::sim
