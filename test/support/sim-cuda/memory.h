// The table of device and registered host memory: who has which addresses, and what a pointer in a call means.
// Guarded by the simulator's one mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string_view>

#include "platform/cuda/cuda_types.h"
#include "support/sim-cuda/journal.h"
#include "support/sim-cuda/region.h"
#include "support/sim-cuda/settings.h"

namespace kvtier::sim {

// Which memory a parameter of a call may name.
enum class Side : std::uint8_t {
  kHost,    // host memory, registered or not
  kDevice,  // what the device can reach: device memory, or mapped host memory
  kEither,
};

class Memory {
 public:
  Memory(const Settings& settings, Journal& journal) : settings_(settings), journal_(journal) {}

  // ---- Device memory ----
  [[nodiscard]] cuda::Error allocate(const std::shared_ptr<ContextState>& context, std::size_t bytes,
                                     cuda::DevicePtr& address);
  [[nodiscard]] cuda::Error free(cuda::DevicePtr address);
  [[nodiscard]] std::size_t used_bytes(int ordinal) const;

  // ---- Host memory ----
  [[nodiscard]] cuda::Error register_host(const std::shared_ptr<ContextState>& context, void* address,
                                          std::size_t bytes, unsigned flags);
  [[nodiscard]] cuda::Error unregister_host(void* address);

  // ---- Memory of another process ----
  void add_import(std::shared_ptr<Region> region);
  [[nodiscard]] std::shared_ptr<Region> find_import(int owner, std::uint64_t file_number, const ContextState& context);
  [[nodiscard]] cuda::Error close_import(cuda::DevicePtr address);

  // ---- Pointers ----
  struct Found {
    std::shared_ptr<Region> region;  // what the first byte lies in, also when it is gone
    std::size_t offset = 0;
    bool by_mapped_address = false;
    bool crosses = false;  // the range begins or ends outside of the region that the rest lies in
  };
  [[nodiscard]] Found find(std::uint64_t address, std::size_t bytes) const;

  // What a call's parameter names. Fails as the driver does; what a real one would let pass is recorded as well.
  [[nodiscard]] cuda::Error place(std::string_view function, std::uint64_t address, std::size_t bytes, Side side,
                                  const ContextState& context, Place& place);

  // The alias of what a kernel of this context touches; nullptr, with a violation, when it may not.
  [[nodiscard]] std::byte* reach(const ContextState& context, std::uint64_t address, std::size_t bytes);

  // Ends everything that belongs to a context.
  void drop(const ContextState& context);
  void reset();

  [[nodiscard]] std::size_t count(Region::Kind kind) const;

 private:
  struct Span {
    std::shared_ptr<Region> region;
    bool by_mapped_address = false;
  };

  void add(const std::shared_ptr<Region>& region);
  void bury(const std::shared_ptr<Region>& region);
  void forget(const Region& region);
  // The addresses of the youngest freed allocation of that many bytes; none where there is none.
  [[nodiscard]] Mapping exhume(std::size_t bytes);
  void tell_importers(Region& region);
  void record_pending(std::string_view function, const Region& region);

  const Settings& settings_;
  Journal& journal_;
  std::map<std::uint64_t, Span> spans_;                // by first address
  std::deque<std::shared_ptr<Region>> graveyard_;      // freed device memory whose addresses stay reserved
  std::map<std::uint64_t, Mapping> mapped_addresses_;  // device addresses of host memory, where they differ
  std::uint64_t ids_ = 0;
};

}  // namespace kvtier::sim
