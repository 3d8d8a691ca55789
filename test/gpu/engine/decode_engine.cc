#include "gpu/engine/decode_engine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "gpu/engine/engine_image.h"
#include "platform/cuda/cuda_driver.h"
#include "platform/cuda/cuda_error.h"

namespace kvtier::engine {
namespace {

constexpr std::uint32_t kWordBytes = 4;
constexpr std::uint64_t kPageBytes = 4096;

// In the order of DecodeEngine::Kernel.
constexpr std::array kNames = {"kvtier_engine_embed", "kvtier_engine_append", "kvtier_engine_score",
                               "kvtier_engine_attend", "kvtier_engine_digest"};

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

Status invalid(std::string message) {
  return Status(Code::kInvalidValue, std::move(message));
}

}  // namespace

DecodeEngine::DecodeEngine(const EngineShape& shape, std::shared_ptr<const CudaContext> context) noexcept
    : shape_(shape), context_(std::move(context)) {}

Result<std::unique_ptr<DecodeEngine>> DecodeEngine::create(const EngineShape& shape, const std::string& library) {
  if (shape.layers == 0 || shape.width == 0 || shape.block_tokens == 0 || shape.slots == 0 || shape.max_tokens == 0 ||
      shape.max_positions == 0) {
    return invalid("an engine's sizes are at least 1");
  }
  // Items of a launch are numbered with 32 bits.
  const std::uint64_t most = std::max(shape.width, shape.max_positions);
  if (shape.max_tokens * most > std::numeric_limits<std::int32_t>::max()) {
    return invalid("an engine's sizes are too large for one launch");
  }
  auto context = CudaContext::retain(CudaDriver::get(library), shape.ordinal);
  if (!context) return context.status();
  std::unique_ptr<DecodeEngine> engine(new DecodeEngine(shape, std::move(context).value()));
  const auto current = CurrentContext::enter(*engine->context_);
  if (!current) return current.status();
  if (Status status = engine->start(); !status) return status;
  return engine;
}

DecodeEngine::~DecodeEngine() {
  const auto current = CurrentContext::enter(*context_);
  // A lost device fails all of these, and has given up what they free.
  if (stream_) static_cast<void>(stream_->synchronize());
  if (module_ != nullptr) static_cast<void>(context_->functions().module_unload(module_));
  if (is_registered_) static_cast<void>(context_->functions().mem_host_unregister(host_));
  std::free(host_);
  for (Place& place : places_) place.done.reset();
  stream_.reset();
}

Status DecodeEngine::start() {
  auto stream = CudaStream::create(context_, CudaStreamPriority::kNormal);
  if (!stream) return stream.status();
  stream_.emplace(std::move(stream).value());
  if (Status status = load_kernels(); !status) return status;
  if (Status status = allocate_regions(); !status) return status;
  return allocate_places();
}

Status DecodeEngine::load_kernels() {
  const cuda::Functions& functions = context_->functions();
  const cuda::Error error = functions.module_load_data(&module_, engine_image());
  if (error != cuda::Error::kSuccess) {
    module_ = nullptr;
    return failed(error, "loading the engine's kernels");
  }
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    const cuda::Error found = functions.module_get_function(&functions_[i], module_, kNames[i]);
    if (found == cuda::Error::kSuccess) continue;
    if (has_engine_code()) return failed(found, std::string("finding ") + kNames[i]);
    return Status(Code::kUnsupported, "this build has no engine kernels for a GPU: it was made without CUDA's nvcc");
  }
  return Status::ok();
}

Status DecodeEngine::allocate_regions() {
  const bool contiguous = shape_.layout == KvLayout::kContiguous;
  const std::uint64_t bytes = shape_.slots * (contiguous ? stride_bytes() : 2 * run_bytes());
  for (std::uint32_t i = 0; i < (contiguous ? 1 : shape_.layers); ++i) {
    auto region = DeviceMemory::allocate(context_, bytes);
    if (!region) return region.status();
    regions_.push_back(std::move(region).value());
  }
  return Status::ok();
}

Status DecodeEngine::allocate_places() {
  const std::uint64_t host_bytes = kPlaces * place_bytes();
  const std::uint64_t hidden_bytes = round_up(std::uint64_t{shape_.max_tokens} * shape_.width * kWordBytes, kPageBytes);
  const std::uint64_t score_bytes =
      round_up(std::uint64_t{shape_.max_tokens} * shape_.max_positions * kWordBytes, kPageBytes);
  auto scratch = DeviceMemory::allocate(context_, hidden_bytes + score_bytes + host_bytes);
  if (!scratch) return scratch.status();
  scratch_.emplace(std::move(scratch).value());

  host_ = static_cast<std::byte*>(std::aligned_alloc(kPageBytes, host_bytes));
  if (host_ == nullptr) return Status(Code::kOutOfMemory, "the engine's places");
  std::memset(host_, 0, host_bytes);
  const cuda::Error error = context_->functions().mem_host_register(host_, host_bytes, cuda::kHostRegisterPortable);
  if (error != cuda::Error::kSuccess) return failed(error, "registering the engine's places");
  is_registered_ = true;
  for (std::uint32_t i = 0; i < kPlaces; ++i) {
    auto event = CudaEvent::create(context_);
    if (!event) return event.status();
    places_[i].done.emplace(std::move(event).value());
    places_[i].host = host_ + i * place_bytes();
  }
  return Status::ok();
}

Status DecodeEngine::check(std::span<const std::uint32_t> tokens, std::uint32_t start,
                           std::span<const std::uint32_t> slots) const {
  if (tokens.empty() || tokens.size() > shape_.max_tokens) {
    return invalid("a decode has 1 to " + std::to_string(shape_.max_tokens) + " tokens, not " +
                   std::to_string(tokens.size()));
  }
  const std::uint64_t positions = std::uint64_t{start} + tokens.size();
  if (positions > shape_.max_positions) {
    return invalid("a sequence has at most " + std::to_string(shape_.max_positions) + " positions, not " +
                   std::to_string(positions));
  }
  const std::uint64_t blocks = (positions + shape_.block_tokens - 1) / shape_.block_tokens;
  if (slots.size() != blocks) {
    return invalid(std::to_string(positions) + " positions need a block table of " + std::to_string(blocks) +
                   " slots, not " + std::to_string(slots.size()));
  }
  for (const std::uint32_t slot : slots) {
    if (slot >= shape_.slots) return invalid("there is no slot " + std::to_string(slot));
  }
  return Status::ok();
}

Result<std::uint32_t> DecodeEngine::decode(std::span<const std::uint32_t> tokens, std::uint32_t start,
                                           std::span<const std::uint32_t> slots,
                                           std::span<const std::vector<cuda::Event>> waits) {
  if (Status status = check(tokens, start, slots); !status) return status;
  const auto free = std::find_if(places_.begin(), places_.end(), [](const Place& place) { return place.count == 0; });
  if (free == places_.end()) return invalid("too many decodes are queued whose outputs were not taken");
  const auto index = static_cast<std::uint32_t>(free - places_.begin());
  const auto current = CurrentContext::enter(*context_);
  if (!current) return current.status();

  std::memcpy(free->host, tokens.data(), tokens.size_bytes());
  std::memcpy(free->host + slots_at(), slots.data(), slots.size_bytes());
  const cuda::DevicePtr device = scratch_->address() + scratch_->size_bytes() - (kPlaces - index) * place_bytes();
  DecodeLaunch launch;
  launch.hidden = scratch_->address();
  launch.scores = launch.hidden + round_up(std::uint64_t{shape_.max_tokens} * shape_.width * kWordBytes, kPageBytes);
  launch.tokens = device;
  launch.slots = device + slots_at();
  launch.results = device + results_at();
  launch.width = shape_.width;
  launch.count = static_cast<std::uint32_t>(tokens.size());
  launch.start = start;
  launch.positions = start + launch.count;
  launch.block_tokens = shape_.block_tokens;
  if (Status status = queue(*free, launch, device, waits); !status) {
    // What was queued still reads the place.
    static_cast<void>(stream_->synchronize());
    return status;
  }
  free->count = launch.count;
  return index;
}

Status DecodeEngine::queue(const Place& place, DecodeLaunch launch, cuda::DevicePtr device,
                           std::span<const std::vector<cuda::Event>> waits) const {
  const cuda::Functions& functions = context_->functions();
  cuda::Error error = functions.memcpy_htod_async(device, place.host, results_at(), stream());
  if (error != cuda::Error::kSuccess) return failed(error, "copying tokens to the GPU");
  const std::uint32_t words = launch.count * launch.width;
  if (Status status = this->launch(kEmbed, launch, words); !status) return status;
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    if (layer < waits.size()) {
      for (const cuda::Event event : waits[layer]) {
        if (Status status = stream_->wait_for(event); !status) return status;
      }
    }
    set_layer(launch, layer);
    if (Status status = this->launch(kAppend, launch, words); !status) return status;
    if (Status status = this->launch(kScore, launch, launch.count * launch.positions); !status) return status;
    if (Status status = this->launch(kAttend, launch, words); !status) return status;
  }
  if (Status status = this->launch(kDigest, launch, launch.count); !status) return status;
  error = functions.memcpy_dtoh_async(place.host + results_at(), launch.results, launch.count * 8, stream());
  if (error != cuda::Error::kSuccess) return failed(error, "copying outputs from the GPU");
  return place.done->record(stream());
}

void DecodeEngine::set_layer(DecodeLaunch& launch, std::uint32_t layer) const noexcept {
  launch.layer = layer;
  switch (shape_.layout) {
    case KvLayout::kContiguous:
      launch.keys = regions_[0].address() + 2 * layer * run_bytes();
      launch.values = launch.keys + run_bytes();
      launch.slot_step = stride_bytes();
      return;
    case KvLayout::kLayersKvOuter:
      launch.keys = regions_[layer].address();
      launch.values = launch.keys + shape_.slots * run_bytes();
      launch.slot_step = run_bytes();
      return;
    case KvLayout::kLayersKvInner:
      launch.keys = regions_[layer].address();
      launch.values = launch.keys + run_bytes();
      launch.slot_step = 2 * run_bytes();
      return;
  }
}

Status DecodeEngine::launch(Kernel kernel, DecodeLaunch& launch, std::uint32_t items) const {
  void* parameter = &launch;
  const cuda::Error error = context_->functions().launch_kernel(functions_[kernel], (items + kThreads - 1) / kThreads,
                                                                1, 1, kThreads, 1, 1, 0, stream(), &parameter, nullptr);
  return error == cuda::Error::kSuccess ? Status::ok() : failed(error, std::string("launching ") + kNames[kernel]);
}

Result<bool> DecodeEngine::is_done(std::uint32_t place) const {
  if (place >= kPlaces || places_[place].count == 0) return invalid("no decode is at this place");
  const auto current = CurrentContext::enter(*context_);
  if (!current) return current.status();
  return places_[place].done->is_done();
}

Result<std::vector<std::uint64_t>> DecodeEngine::take(std::uint32_t place) {
  const auto done = is_done(place);
  if (!done) return done.status();
  if (!done.value()) return invalid("the decode at this place is not done");
  std::vector<std::uint64_t> outputs(places_[place].count);
  std::memcpy(outputs.data(), places_[place].host + results_at(), outputs.size() * 8);
  places_[place].count = 0;
  return outputs;
}

Status DecodeEngine::failed(cuda::Error error, const std::string& what) const {
  return cuda::to_status(context_->functions(), error, what);
}

std::uint64_t DecodeEngine::run_bytes() const noexcept {
  return std::uint64_t{shape_.block_tokens} * shape_.width * kWordBytes;
}
std::uint64_t DecodeEngine::stride_bytes() const noexcept {
  return round_up(2 * shape_.layers * run_bytes(), kPageBytes);
}
std::uint64_t DecodeEngine::slots_at() const noexcept {
  return std::uint64_t{shape_.max_tokens} * kWordBytes;
}
std::uint64_t DecodeEngine::results_at() const noexcept {
  const std::uint64_t blocks = (shape_.max_positions + shape_.block_tokens - 1) / shape_.block_tokens;
  return round_up(slots_at() + blocks * kWordBytes, 8);
}
std::uint64_t DecodeEngine::place_bytes() const noexcept {
  return round_up(results_at() + std::uint64_t{shape_.max_tokens} * 8, kPageBytes);
}

}  // namespace kvtier::engine
