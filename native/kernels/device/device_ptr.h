// How kernels reach memory: by device_ptr() alone, which is the identity on a GPU and a look-up in the simulated
// driver. And units of 1 to 16 bytes, each moved by one instruction on a GPU. A kernel's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/device_code.h"

#if !defined(__CUDACC__)
// The simulated driver's: where the CPU finds [pointer, pointer + bytes), and the fault that a GPU would have.
extern "C" {
void* kvtier_sim_alias(std::uint64_t pointer, std::size_t bytes);
void kvtier_sim_misaligned(std::uint64_t pointer, std::size_t unit);
}
#endif

namespace kvtier::device {

// The bytes at [address, address + bytes), which the launch must be allowed to touch, for instructions that move
// `kUnitBytes` at once.
template <typename T, unsigned kUnitBytes>
[[nodiscard]] KVTIER_DEVICE T* device_ptr(std::uint64_t address, [[maybe_unused]] std::size_t bytes) {
#if defined(__CUDACC__)
  return reinterpret_cast<T*>(address);
#else
  if (address % kUnitBytes != 0) kvtier_sim_misaligned(address, kUnitBytes);
  return static_cast<T*>(kvtier_sim_alias(address, bytes));
#endif
}

#if defined(__CUDACC__)

template <unsigned kBytes>
struct UnitOf;
template <>
struct UnitOf<16> {
  using Type = uint4;
};
template <>
struct UnitOf<8> {
  using Type = uint2;
};
template <>
struct UnitOf<4> {
  using Type = unsigned;
};
template <>
struct UnitOf<1> {
  using Type = unsigned char;
};

#else

template <unsigned kBytes>
struct UnitOf {
  struct Type {
    std::byte bytes[kBytes];
  };
};

#endif

template <unsigned kBytes>
using Unit = typename UnitOf<kBytes>::Type;

// Bytes that are read once: the caches give them up first.
template <unsigned kBytes>
[[nodiscard]] KVTIER_DEVICE Unit<kBytes> load_streaming(const std::byte* from) {
#if defined(__CUDACC__)
  return __ldcs(reinterpret_cast<const Unit<kBytes>*>(from));
#else
  Unit<kBytes> unit;
  std::memcpy(&unit, from, kBytes);
  return unit;
#endif
}

// Bytes that nobody on the device reads again.
template <unsigned kBytes>
KVTIER_DEVICE void store_streaming(std::byte* to, const Unit<kBytes>& unit) {
#if defined(__CUDACC__)
  __stcs(reinterpret_cast<Unit<kBytes>*>(to), unit);
#else
  std::memcpy(to, &unit, kBytes);
#endif
}

template <unsigned kBytes>
KVTIER_DEVICE void store(std::byte* to, const Unit<kBytes>& unit) {
#if defined(__CUDACC__)
  __stwb(reinterpret_cast<Unit<kBytes>*>(to), unit);
#else
  std::memcpy(to, &unit, kBytes);
#endif
}

}  // namespace kvtier::device
