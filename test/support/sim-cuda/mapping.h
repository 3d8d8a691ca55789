// Device memory as the simulator makes it: a memory file mapped twice, once at the address that is handed out, where
// nothing may be read or written, and once at a hidden address for the simulator itself. Behind the data lies a page
// that exporting and importing processes share. One thread at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "platform/cuda/cuda_types.h"
#include "support/sim-cuda/fd.h"

namespace kvtier::sim {

// A range of address space that is given back.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* address, std::size_t bytes) : address_(address), bytes_(bytes) {}
  ~Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;

  [[nodiscard]] std::byte* get() const { return static_cast<std::byte*>(address_); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  // Address space without memory, where nothing may be touched.
  [[nodiscard]] static std::optional<Mapping> reserve(std::size_t bytes);
  [[nodiscard]] static std::optional<Mapping> of_file(int fd, std::size_t offset, std::size_t bytes, int protection);

 private:
  void* address_ = nullptr;
  std::size_t bytes_ = 0;
};

// What an exporting process and its importers tell each other about one allocation. Its first content is all zero.
struct SharedPage {
  std::atomic<std::uint32_t> freed;
  std::array<std::atomic<std::int32_t>, 16> importers;  // process ids
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

class DeviceBytes {
 public:
  // Empty when the system has no memory or no address space. `at`: addresses to use again, as many as are needed.
  [[nodiscard]] static std::optional<DeviceBytes> make(std::size_t bytes, Mapping at = Mapping());
  [[nodiscard]] static std::optional<DeviceBytes> adopt(Fd file, std::size_t bytes, Mapping at = Mapping());

  [[nodiscard]] cuda::DevicePtr address() const { return reinterpret_cast<cuda::DevicePtr>(address_.get()); }
  [[nodiscard]] std::byte* alias() const { return alias_.get(); }
  [[nodiscard]] SharedPage& shared() const { return *reinterpret_cast<SharedPage*>(shared_.get()); }
  [[nodiscard]] int file() const { return file_.get(); }

  // Gives the memory back and keeps the address, so that a stale pointer meets nothing new there.
  void drop_bytes();
  // Gives up the address too, for another allocation.
  [[nodiscard]] Mapping take_address();

 private:
  Fd file_;
  Mapping address_;
  Mapping alias_;
  Mapping shared_;
};

[[nodiscard]] std::size_t page_bytes();
[[nodiscard]] std::size_t round_to_pages(std::size_t bytes);

}  // namespace kvtier::sim
