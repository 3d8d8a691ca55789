#include "transfer/device/calibrate.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memory/device/device_memory.h"
#include "memory/device/pinned_memory.h"
#include "memory/host_buffer.h"
#include "platform/cuda/cuda_error.h"
#include "platform/cuda/cuda_event.h"
#include "platform/cuda/cuda_stream.h"

namespace kvtier {
namespace {

// The cells that are measured, those that tell most first: sizes of 1 KiB to 4 MiB, 1 to 4,096 runs.
constexpr unsigned kSizes[] = {5, 2, 8, 4, 6, 0, 10, 12};
constexpr unsigned kCounts[] = {4, 2, 0, 6, 3};
// Strategies with a call a run or a rectangle are measured with so many calls at most: with more they take that much
// longer.
constexpr std::uint64_t kMostCalls = 32;
// Blocks whose slots follow each other on both sides.
constexpr std::uint32_t kGroup = 4;

constexpr std::uint64_t kFewestBytes = std::uint64_t{4} << 10;
constexpr unsigned kMostRounds = 101;

struct Cell {
  unsigned size = 0;
  unsigned count = 0;
  bool to_device = false;

  [[nodiscard]] std::uint64_t run_bytes() const noexcept { return bytes_of_bucket(size); }
  // Layers, and as many blocks.
  [[nodiscard]] std::uint32_t side() const noexcept { return std::uint32_t{1} << count; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return run_bytes() * runs_of_bucket(count); }
};

// Groups of blocks are in the opposite order on the other side, so that they do not make longer ones.
std::vector<SlotPair> pairs_of(std::uint32_t blocks) {
  const std::uint32_t group = std::min(kGroup, blocks);
  std::vector<SlotPair> pairs;
  for (std::uint32_t slot = 0; slot < blocks; ++slot) {
    pairs.push_back({.device = slot, .host = (blocks / group - 1 - slot / group) * group + slot % group});
  }
  return pairs;
}

double thread_cpu_us() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The memory and the clock of a calibration. Its context is current as long as it lives.
class Bench {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Bench>> make(Copier& copier, const CopyMeasureOptions& options);
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  // What is queued uses the memory.
  ~Bench() { static_cast<void>(stream_.synchronize()); }

  // Measures one strategy in one cell.
  [[nodiscard]] Result<CopyFigure> measure(const Cell& cell, CopyStrategy strategy);

 private:
  struct Round {
    double seconds = 0;
    double cpu_us = 0;
  };

  Bench(Copier& copier, unsigned rounds, CudaStream stream, CudaEvent start, CudaEvent end, DeviceMemory device)
      : copier_(copier),
        rounds_(rounds),
        stream_(std::move(stream)),
        start_(std::move(start)),
        end_(std::move(end)),
        device_(std::move(device)) {}
  [[nodiscard]] Result<Round> run(const CopyJob& job, CopyStrategy strategy) const;

  Copier& copier_;
  const unsigned rounds_;
  CudaStream stream_;
  CudaEvent start_;
  CudaEvent end_;
  DeviceMemory device_;
  std::shared_ptr<HostBuffer> buffer_;
  std::unique_ptr<PinnedMemory> host_;
};

Result<std::unique_ptr<Bench>> Bench::make(Copier& copier, const CopyMeasureOptions& options) {
  const std::shared_ptr<const CudaContext>& context = copier.context();
  const std::uint64_t bytes = std::max(options.cell_bytes, kFewestBytes);
  auto stream = CudaStream::create(context, CudaStreamPriority::kNormal);
  if (!stream.is_ok()) return stream.status();
  auto start = CudaEvent::create(context, {.timing = true});
  if (!start.is_ok()) return start.status();
  auto end = CudaEvent::create(context, {.timing = true});
  if (!end.is_ok()) return end.status();
  auto device = DeviceMemory::allocate(context, bytes);
  if (!device.is_ok()) return device.status();
  auto buffer = HostBuffer::allocate(bytes, {.prefault = false});
  if (!buffer.is_ok()) return buffer.status();
  std::unique_ptr<Bench> bench(new Bench(copier, std::clamp(options.rounds, 1U, kMostRounds), std::move(stream).value(),
                                         std::move(start).value(), std::move(end).value(), std::move(device).value()));
  bench->buffer_ = std::make_shared<HostBuffer>(std::move(buffer).value());
  auto host = PinnedMemory::make(context, bench->buffer_, bytes, kFewestBytes,
                                 {.first_part_bytes = bytes, .part_bytes = bytes});
  if (!host.is_ok()) return host.status();
  bench->host_ = std::move(host).value();
  return bench;
}

Result<CopyFigure> Bench::measure(const Cell& cell, CopyStrategy strategy) {
  const std::uint32_t side = cell.side();
  const GroupShape shape{.parts = 1,
                         .layers = side,
                         .outer = 1,
                         .tokens_per_block = 1,
                         .bytes_per_token = static_cast<std::uint32_t>(cell.run_bytes())};
  const auto layout = SlotLayout::make(LayoutKind::kLayersKvInner, shape, side);
  if (!layout.is_ok()) return layout.status();
  std::vector<std::uint64_t> regions;
  for (const std::uint64_t bytes : layout.value().region_bytes()) {
    regions.push_back(device_.address() + regions.size() * bytes);
  }
  const std::vector<SlotPair> pairs = pairs_of(side);
  const CopyJob job{.device = {&layout.value(), regions},
                    .host = {reinterpret_cast<std::uint64_t>(buffer_->data()), shape.block_bytes()},
                    .pairs = pairs,
                    .to_device = cell.to_device,
                    .pinned = true,
                    .mapped_base = host_->part_of(0).device_address};
  std::vector<double> seconds;
  std::vector<double> cpu_us;
  // The first round warms up and does not count.
  for (unsigned round = 0; round <= rounds_; ++round) {
    const Result<Round> took = run(job, strategy);
    if (!took.is_ok()) return took.status();
    if (round == 0) continue;
    seconds.push_back(took.value().seconds);
    cpu_us.push_back(took.value().cpu_us);
  }
  return CopyFigure{.gigabytes_per_second = static_cast<double>(cell.bytes()) / median(seconds) / 1e9,
                    .cpu_us = median(cpu_us)};
}

Result<Bench::Round> Bench::run(const CopyJob& job, CopyStrategy strategy) const {
  if (Status status = start_.record(stream_.handle()); !status.is_ok()) return status;
  const double before = thread_cpu_us();
  Status queued = copier_.enqueue_by(strategy, job, stream_.handle());
  const double after = thread_cpu_us();
  if (!queued.is_ok()) return queued;
  if (Status status = end_.record(stream_.handle()); !status.is_ok()) return status;
  if (Status status = end_.synchronize(); !status.is_ok()) return status;
  float milliseconds = 0;
  const cuda::Functions& functions = stream_.context().functions();
  if (const cuda::Error error = functions.event_elapsed_time(&milliseconds, start_.handle(), end_.handle());
      error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuEventElapsedTime");
  }
  // The clock of events has a resolution of about half a microsecond.
  return Round{.seconds = std::max(static_cast<double>(milliseconds) / 1e3, 5e-7), .cpu_us = after - before};
}

// Whether the strategy is measured there.
bool is_measured_in(const Cell& cell, CopyStrategy strategy) noexcept {
  const std::uint64_t blocks = cell.side();
  switch (strategy) {
    case CopyStrategy::kSingle:
      return blocks * blocks <= kMostCalls;
    case CopyStrategy::kRectangle:
      // Below that it would be kSingle.
      return blocks > 1 && blocks * std::max<std::uint64_t>(blocks / kGroup, 1) <= kMostCalls;
    case CopyStrategy::kBatch:
    case CopyStrategy::kKernel:
    case CopyStrategy::kStaged:
      return true;
  }
  KVTIER_CHECK(false);
}

void forget(CopyFigures& figures, bool to_device, CopyStrategy strategy, const Status& why) {
  const auto index = static_cast<std::size_t>(strategy);
  figures.left_out[to_device ? 1 : 0][index] = why;
  for (auto& counts : figures.table[to_device ? 1 : 0]) {
    for (auto& cell : counts) cell[index] = {};
  }
}

// kDeviceLost is the only failure.
Status measure_cell(Bench& bench, const Cell& cell, CopyFigures& figures) {
  const std::size_t direction = cell.to_device ? 1 : 0;
  for (std::size_t index = 0; index < kCopyStrategyCount; ++index) {
    const auto strategy = static_cast<CopyStrategy>(index);
    if (!figures.left_out[direction][index].is_ok() || !is_measured_in(cell, strategy)) continue;
    const Result<CopyFigure> figure = bench.measure(cell, strategy);
    if (figure.is_ok()) {
      figures.table[direction][cell.size][cell.count][index] = figure.value();
    } else if (figure.status().code() == Code::kDeviceLost) {
      return figure.status();
    } else {
      forget(figures, cell.to_device, strategy, figure.status());
    }
  }
  return Status::ok();
}

}  // namespace

Result<CopyFigures> measure_copies(Copier& copier, const CopyMeasureOptions& options) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options.budget_ms);
  const Result<CurrentContext> current = CurrentContext::enter(*copier.context());
  if (!current.is_ok()) return current.status();
  const auto bench = Bench::make(copier, options);
  if (!bench.is_ok()) return bench.status();
  CopyFigures figures;
  for (const bool to_device : {false, true}) {
    for (std::size_t strategy = 0; strategy < kCopyStrategyCount; ++strategy) {
      figures.left_out[to_device ? 1 : 0][strategy] = copier.can_use(static_cast<CopyStrategy>(strategy), to_device);
    }
  }
  for (const unsigned size : kSizes) {
    for (const unsigned count : kCounts) {
      for (const bool to_device : {true, false}) {
        const Cell cell{.size = size, .count = count, .to_device = to_device};
        if (cell.bytes() > options.cell_bytes) continue;
        if (std::chrono::steady_clock::now() >= deadline) return figures;
        if (Status status = measure_cell(*bench.value(), cell, figures); !status.is_ok()) return status;
      }
    }
  }
  return figures;
}

}  // namespace kvtier
