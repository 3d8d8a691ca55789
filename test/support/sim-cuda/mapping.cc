#include "support/sim-cuda/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace kvtier::sim {

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, bytes_);
}

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (address_ != nullptr) ::munmap(address_, bytes_);
    address_ = std::exchange(other.address_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

std::optional<Mapping> Mapping::reserve(std::size_t bytes) {
  void* address = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return std::nullopt;
  return Mapping(address, bytes);
}

std::optional<Mapping> Mapping::of_file(int fd, std::size_t offset, std::size_t bytes, int protection) {
  void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) return std::nullopt;
  return Mapping(address, bytes);
}

std::optional<DeviceBytes> DeviceBytes::make(std::size_t bytes, Mapping at) {
  Fd file(::memfd_create("kvtier-sim-cuda", MFD_CLOEXEC));
  if (!file.is_open()) return std::nullopt;
  if (::ftruncate(file.get(), static_cast<off_t>(round_to_pages(bytes) + page_bytes())) != 0) return std::nullopt;
  return adopt(std::move(file), bytes, std::move(at));
}

std::optional<DeviceBytes> DeviceBytes::adopt(Fd file, std::size_t bytes, Mapping at) {
  const std::size_t data_bytes = round_to_pages(bytes);
  std::optional<Mapping> address;
  if (at.get() == nullptr) {
    address = Mapping::of_file(file.get(), 0, data_bytes, PROT_NONE);
  } else if (::mmap(at.get(), at.bytes(), PROT_NONE, MAP_SHARED | MAP_FIXED, file.get(), 0) != MAP_FAILED) {
    address = std::move(at);
  }
  std::optional<Mapping> alias = Mapping::of_file(file.get(), 0, data_bytes, PROT_READ | PROT_WRITE);
  std::optional<Mapping> shared = Mapping::of_file(file.get(), data_bytes, page_bytes(), PROT_READ | PROT_WRITE);
  if (!address || !alias || !shared) return std::nullopt;
  DeviceBytes result;
  result.file_ = std::move(file);
  result.address_ = std::move(*address);
  result.alias_ = std::move(*alias);
  result.shared_ = std::move(*shared);
  return result;
}

void DeviceBytes::drop_bytes() {
  ::mmap(address_.get(), address_.bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  alias_ = Mapping();
  shared_ = Mapping();
  file_ = Fd();
}

Mapping DeviceBytes::take_address() {
  return std::move(address_);
}

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

std::size_t round_to_pages(std::size_t bytes) {
  return (bytes + page_bytes() - 1) / page_bytes() * page_bytes();
}

}  // namespace kvtier::sim
