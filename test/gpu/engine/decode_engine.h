// A small inference engine: decodes tokens with attention over paged keys and values, on one GPU and one stream. Its
// memory is lent to kvtier, so that blocks move beside real kernels; outputs must not depend on where they were. One
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "gpu/engine/decode_launch.h"
#include "memory/device/device_memory.h"
#include "platform/cuda/cuda_context.h"
#include "platform/cuda/cuda_event.h"
#include "platform/cuda/cuda_stream.h"

namespace kvtier::engine {

// How the keys and values of a slot lie, as kvtier's layout kinds name it.
enum class KvLayout : std::uint8_t { kContiguous, kLayersKvOuter, kLayersKvInner };

struct EngineShape {
  std::uint32_t layers = 1;
  std::uint32_t width = 32;         // words of a key or a value
  std::uint32_t block_tokens = 16;  // tokens of a block
  std::uint32_t slots = 1;
  KvLayout layout = KvLayout::kLayersKvInner;
  std::uint32_t max_tokens = 64;      // of one decode
  std::uint32_t max_positions = 512;  // of a sequence
  int ordinal = 0;
};

class DecodeEngine {
 public:
  // So many decodes can be queued whose outputs were not taken.
  static constexpr std::uint32_t kPlaces = 16;

  // `library` is the driver's file, empty for the system's. kUnsupported without a driver, or where the build has no
  // kernels for a real one.
  [[nodiscard]] static Result<std::unique_ptr<DecodeEngine>> create(const EngineShape& shape,
                                                                    const std::string& library);
  DecodeEngine(const DecodeEngine&) = delete;
  DecodeEngine& operator=(const DecodeEngine&) = delete;
  // Waits for what is queued. Nobody may use the memory any more.
  ~DecodeEngine();

  [[nodiscard]] const EngineShape& shape() const noexcept { return shape_; }
  // One for the contiguous layout, else one a layer.
  [[nodiscard]] std::span<const DeviceMemory> regions() const noexcept { return regions_; }
  [[nodiscard]] cuda::Stream stream() const noexcept { return stream_->handle(); }

  // Queues the decoding of `tokens`, the first of which has the position `start`; `slots` are those of all the
  // sequence's blocks up to the last token. Each layer waits for the events that `waits` has at its place first. The
  // value is a place for is_done() and take().
  [[nodiscard]] Result<std::uint32_t> decode(std::span<const std::uint32_t> tokens, std::uint32_t start,
                                             std::span<const std::uint32_t> slots,
                                             std::span<const std::vector<cuda::Event>> waits);
  [[nodiscard]] Result<bool> is_done(std::uint32_t place) const;
  // An output a token, of a decode that is done; its place is free again.
  [[nodiscard]] Result<std::vector<std::uint64_t>> take(std::uint32_t place);

 private:
  enum Kernel : std::uint8_t { kEmbed, kAppend, kScore, kAttend, kDigest, kKernelCount };

  // What one decode gives to the GPU and gets from it, in host memory that copies reach and in device memory.
  struct Place {
    std::byte* host = nullptr;
    std::optional<CudaEvent> done;
    std::uint32_t count = 0;  // tokens; 0: free
  };

  DecodeEngine(const EngineShape& shape, std::shared_ptr<const CudaContext> context) noexcept;
  [[nodiscard]] Status start();
  [[nodiscard]] Status allocate_regions();
  [[nodiscard]] Status allocate_places();
  [[nodiscard]] Status load_kernels();
  [[nodiscard]] Status check(std::span<const std::uint32_t> tokens, std::uint32_t start,
                             std::span<const std::uint32_t> slots) const;
  [[nodiscard]] Status queue(const Place& place, DecodeLaunch launch, cuda::DevicePtr device,
                             std::span<const std::vector<cuda::Event>> waits) const;
  [[nodiscard]] Status launch(Kernel kernel, DecodeLaunch& launch, std::uint32_t items) const;
  void set_layer(DecodeLaunch& launch, std::uint32_t layer) const noexcept;
  [[nodiscard]] Status failed(cuda::Error error, const std::string& what) const;

  [[nodiscard]] std::uint64_t run_bytes() const noexcept;     // keys of one block in one layer
  [[nodiscard]] std::uint64_t stride_bytes() const noexcept;  // of a contiguous slot
  // A place: tokens, then slots, then outputs.
  [[nodiscard]] std::uint64_t slots_at() const noexcept;
  [[nodiscard]] std::uint64_t results_at() const noexcept;
  [[nodiscard]] std::uint64_t place_bytes() const noexcept;

  const EngineShape shape_;
  const std::shared_ptr<const CudaContext> context_;
  std::optional<CudaStream> stream_;
  std::vector<DeviceMemory> regions_;
  std::optional<DeviceMemory> scratch_;  // hidden rows, scores, then the places
  std::byte* host_ = nullptr;            // the places
  bool is_registered_ = false;
  std::array<Place, kPlaces> places_;
  cuda::Module module_ = nullptr;
  std::array<cuda::Function, kKernelCount> functions_{};
};

}  // namespace kvtier::engine
