// What the tests of the copier share: a simulated machine, device and host memory in slots whose every byte is known,
// and a kernel of the tests' own that copies slots. One thread.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "platform/cuda/cuda_error.h"
#include "platform/cuda/cuda_stream.h"
#include "support/sim-cuda/sim_library.h"
#include "transfer/device/copier.h"

namespace kvtier::test {

using Bytes = std::vector<unsigned char>;

// A driver of that CUDA version. CudaDriver keeps what it found under a name, so each version has a name of its own for
// the one library.
inline const CudaDriver& sim_driver(int version) {
  const std::string path = sim::SimDriver::get().library.path();
  const std::size_t name = path.rfind('/') + 1;
  std::string spelled = path.substr(0, name);
  if (version < 13000) spelled += "./";
  if (version < 12080) spelled += "./";
  return CudaDriver::get(spelled + path.substr(name));
}

// Many runs as one launch of the tests' kernel takes them, one a thread block.
struct TestRuns {
  static constexpr std::size_t kLimit = 32;
  std::uint64_t bytes = 0;
  bool to_device = false;
  std::array<std::uint64_t, kLimit> device{};
  std::array<std::uint64_t, kLimit> host{};
};

inline void copy_test_runs(const sim::LaunchShape& shape, TestRuns runs) {
  const sim::SimDriver& sim = sim::SimDriver::get();
  for (std::uint64_t block = shape.block_begin; block < shape.block_end; ++block) {
    void* const device = sim.alias(runs.device[block], runs.bytes);
    void* const host = sim.alias(runs.host[block], runs.bytes);
    std::memcpy(runs.to_device ? device : host, runs.to_device ? host : device, runs.bytes);
  }
}

// A machine with one context, current on this thread. At its end nothing may be left on it, and no violation.
class CopierWorld {
 public:
  explicit CopierWorld(const std::string& settings = "", int version = 13000) : sim(sim::SimDriver::get()) {
    sim.reset(("version=" + std::to_string(version) + " lateness_us=5 " + settings).c_str());
    const CudaDriver& driver = sim_driver(version);
    REQUIRE(sim.cuda.init(0) == cuda::Error::kSuccess);
    auto retained = CudaContext::retain(driver, 0);
    REQUIRE(retained.is_ok());
    context = std::move(retained).value();
    REQUIRE(context->make_current().is_ok());
    load_kernel();
  }
  ~CopierWorld() {
    (void)sim.cuda.module_unload(module_);
    for (const char* what : {"allocations", "streams", "events", "registrations", "modules"}) {
      CHECK_MESSAGE((is_lost || sim.count(what) == 0), what);
    }
    const std::size_t left = sim.violations();
    const std::string first = left > 0 ? sim.violation_text() : std::string();
    context.reset();
    sim.reset(nullptr);
    CHECK_MESSAGE(left == 0, first);
  }
  CopierWorld(const CopierWorld&) = delete;
  CopierWorld& operator=(const CopierWorld&) = delete;

  [[nodiscard]] CudaStream stream() const {
    auto made = CudaStream::create(context, CudaStreamPriority::kNormal);
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }

  // A kernel as the copier takes it: as many launches as the runs need.
  [[nodiscard]] CopySlots kernel() const {
    return [this](const SlotCopy& copy, unsigned, cuda::Stream stream) { return launch(copy, stream); };
  }

  [[nodiscard]] std::unique_ptr<Copier> copier(const CopierOptions& options = {}) const {
    auto made = Copier::create_with(context, options, kernel());
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }
  [[nodiscard]] std::unique_ptr<Copier> copier_without_kernels(const CopierOptions& options = {}) const {
    auto made = Copier::create_with(context, options, Status(Code::kUnsupported, "this build has no kernels"));
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }

  const sim::SimDriver& sim;
  std::shared_ptr<const CudaContext> context;
  bool is_lost = false;  // the test lost the device, which frees nothing any more

 private:
  void load_kernel() {
    using Form = sim::HostForm<&copy_test_runs>;
    sim.register_kernel("kvtier_test_copy", &Form::run, Form::kParameterBytes.data(), Form::kParameterBytes.size());
    constexpr char kElf[] =
        "\x7F"
        "ELF and the rest";
    REQUIRE(sim.cuda.module_load_data(&module_, kElf) == cuda::Error::kSuccess);
    REQUIRE(sim.cuda.module_get_function(&function_, module_, "kvtier_test_copy") == cuda::Error::kSuccess);
  }

  Status launch(const SlotCopy& copy, cuda::Stream stream) const {
    TestRuns runs{.bytes = copy.fragment_bytes, .to_device = copy.to_device};
    unsigned count = 0;
    const auto flush = [&] {
      void* parameters[] = {&runs};
      const cuda::Error error =
          sim.cuda.launch_kernel(function_, count, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr);
      count = 0;
      return cuda::to_status(sim.cuda, error, "cuLaunchKernel");
    };
    for (const KernelSlots& slots : copy.slots) {
      for (const KernelFragment& fragment : copy.fragments) {
        runs.device[count] = fragment.device + copy.device_step * slots.device;
        runs.host[count] = copy.host_base + copy.host_stride * slots.host + fragment.host_offset;
        if (++count < TestRuns::kLimit) continue;
        if (Status status = flush(); !status.is_ok()) return status;
      }
    }
    return count == 0 ? Status::ok() : flush();
  }

  cuda::Module module_ = nullptr;
  cuda::Function function_ = nullptr;
};

// Device slots and host slots with known bytes, and what they hold after a copy.
class Slots {
 public:
  struct Shape {
    LayoutKind kind = LayoutKind::kContiguous;
    GroupShape group;
    std::uint32_t slots = 16;
    std::uint64_t padding = 0;  // between host slots
    bool pinned = true;
  };

  Slots(const CopierWorld& world, const Shape& shape, unsigned seed = 1)
      : world_(world), shape_(shape), layout_(SlotLayout::make(shape.kind, shape.group, shape.slots).value()) {
    std::minstd_rand random(seed);
    const auto fill = [&random](Bytes& bytes) {
      std::generate(bytes.begin(), bytes.end(), [&random] { return static_cast<unsigned char>(random()); });
    };
    for (const std::uint64_t bytes : layout_.region_bytes()) {
      device_.emplace_back(bytes);
      fill(device_.back());
      cuda::DevicePtr region = 0;
      REQUIRE(world_.sim.cuda.mem_alloc(&region, bytes) == cuda::Error::kSuccess);
      REQUIRE(world_.sim.write(region, device_.back().data(), bytes) == 1);
      regions_.push_back(region);
    }
    stride_ = shape.group.block_bytes() + shape.padding;
    host_memory_.resize(stride_ * shape.slots);
    fill(host_memory_);
    host_ = host_memory_;
    if (!shape.pinned) return;
    constexpr unsigned kFlags = cuda::kHostRegisterPortable | cuda::kHostRegisterDeviceMap;
    REQUIRE(world_.sim.cuda.mem_host_register(host_memory_.data(), host_memory_.size(), kFlags) ==
            cuda::Error::kSuccess);
    REQUIRE(world_.sim.cuda.mem_host_get_device_pointer(&mapped_, host_memory_.data(), 0) == cuda::Error::kSuccess);
  }
  ~Slots() {
    for (const cuda::DevicePtr region : regions_) (void)world_.sim.cuda.mem_free(region);
    if (shape_.pinned) (void)world_.sim.cuda.mem_host_unregister(host_memory_.data());
  }
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;

  [[nodiscard]] CopyJob job(std::span<const SlotPair> pairs, bool to_device) {
    return {.device = {&layout_, regions_},
            .host = {reinterpret_cast<std::uint64_t>(host_memory_.data()), stride_},
            .pairs = pairs,
            .to_device = to_device,
            .pinned = shape_.pinned,
            .mapped_base = mapped_};
  }

  // Moves the job's bytes in the model, byte by byte from the layout itself.
  void expect(const CopyJob& job) {
    for (const SlotPair& pair : job.pairs) {
      std::uint64_t at = stride_ * pair.host;
      std::uint32_t index = 0;
      for (const Fragment& fragment : layout_.fragments()) {
        const bool inside = index >= job.first_fragment && index - job.first_fragment < job.fragment_count;
        unsigned char* const device = device_[fragment.region].data() + fragment.offset + fragment.step * pair.device;
        unsigned char* const host = host_.data() + at;
        if (inside) std::memcpy(job.to_device ? device : host, job.to_device ? host : device, fragment.length);
        at += fragment.length;
        ++index;
      }
    }
  }

  // Whether memory holds what the model says, also beside what was copied.
  [[nodiscard]] bool is_as_expected() const {
    for (std::size_t region = 0; region < regions_.size(); ++region) {
      Bytes bytes(device_[region].size());
      REQUIRE(world_.sim.read(regions_[region], bytes.data(), bytes.size()) == 1);
      if (bytes != device_[region]) return false;
    }
    return host_memory_ == host_;
  }

  // So many slots in an order of the seed, with runs of slots that follow each other among them.
  [[nodiscard]] std::vector<SlotPair> some_pairs(std::uint32_t count, unsigned seed) const {
    std::minstd_rand random(seed);
    std::vector<std::uint32_t> device(shape_.slots);
    for (std::uint32_t slot = 0; slot < shape_.slots; ++slot) device[slot] = slot;
    std::vector<std::uint32_t> host = device;
    // Rotated, they still follow each other.
    std::rotate(host.begin(), host.begin() + static_cast<std::ptrdiff_t>(random() % shape_.slots), host.end());
    for (std::uint32_t swaps = 0; swaps < shape_.slots / 4; ++swaps) {
      std::swap(device[random() % shape_.slots], device[random() % shape_.slots]);
      std::swap(host[random() % shape_.slots], host[random() % shape_.slots]);
    }
    std::vector<SlotPair> pairs;
    for (std::uint32_t i = 0; i < count; ++i) pairs.push_back({device[i], host[i]});
    return pairs;
  }

  [[nodiscard]] const SlotLayout& layout() const { return layout_; }
  [[nodiscard]] Bytes& host_memory() { return host_memory_; }
  [[nodiscard]] std::span<const std::uint64_t> regions() const { return regions_; }

 private:
  const CopierWorld& world_;
  const Shape shape_;
  const SlotLayout layout_;
  std::vector<std::uint64_t> regions_;
  std::uint64_t stride_ = 0;
  std::uint64_t mapped_ = 0;
  Bytes host_memory_;
  // The model.
  std::vector<Bytes> device_;
  Bytes host_;
};

inline constexpr CopyStrategy kAllStrategies[] = {
#define KVTIER_TEST_STRATEGY(name, text) CopyStrategy::name,
    KVTIER_COPY_STRATEGIES(KVTIER_TEST_STRATEGY)
#undef KVTIER_TEST_STRATEGY
};

[[nodiscard]] inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Every cell of the table the same.
[[nodiscard]] inline CopyChoices always(CopyStrategy strategy) {
  CopyChoices choices;
  for (auto& sizes : choices.table) {
    for (auto& counts : sizes) counts.fill(strategy);
  }
  return choices;
}

}  // namespace kvtier::test
