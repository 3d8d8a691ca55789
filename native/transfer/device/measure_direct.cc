#include "transfer/device/measure_direct.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "digest/payload_checksum.h"
#include "memory/device/pinned_memory.h"
#include "memory/host_buffer.h"
#include "platform/cufile/direct_scratch.h"
#include "transfer/device/device_verifier.h"
#include "transfer/plan.h"

namespace kvtier {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kFileBytes = std::uint64_t{8} << 20;
constexpr std::uint32_t kFewestRegions = 2;
constexpr std::uint32_t kMostRegions = 4;
constexpr unsigned kMostRounds = 101;
static_assert(static_cast<std::size_t>(DirectLoad::kBlock) == 0);
constexpr std::array kLoads{DirectLoad::kRun, DirectLoad::kBlock, DirectLoad::kScattered};

// What is loaded: runs of blocks, one after another in the file. A load of a round lies in another one than the load
// before, so that neither way finds in a disk's memory what the other has just read.
struct Shape {
  std::uint64_t block_bytes = 0;
  std::uint32_t blocks = 0;   // of a run
  std::uint32_t regions = 0;  // runs in the file

  [[nodiscard]] static Shape of(std::uint64_t slot_stride, std::uint64_t most_bytes) noexcept {
    const std::uint64_t most = std::max(most_bytes / kCufileAlignment * kCufileAlignment, kCufileAlignment);
    Shape shape;
    shape.block_bytes = std::min(slot_stride, most);
    shape.blocks =
        static_cast<std::uint32_t>(std::clamp<std::uint64_t>(most / shape.block_bytes, 1, run_blocks(slot_stride)));
    shape.regions = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(kFileBytes / shape.run_bytes(), kFewestRegions, kMostRegions));
    return shape;
  }
  [[nodiscard]] std::uint64_t run_bytes() const noexcept { return block_bytes * blocks; }
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return run_bytes() * regions; }
};

// Blocks of the file, and where they go in device memory.
struct Load {
  DirectLoad kind = DirectLoad::kBlock;
  std::uint32_t first = 0;  // in the file
  std::uint32_t count = 0;

  // Scattered: from the end of the memory to its begin, so that no two make one piece.
  [[nodiscard]] std::uint32_t place_of(std::uint32_t i) const noexcept {
    return kind == DirectLoad::kScattered ? count - 1 - i : i;
  }
};

std::uint64_t seed_of_block(std::uint32_t block) noexcept {
  return block * 0x9E3779B97F4A7C15U + 1;
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Registered, and where it is.
void keep_for_ever(std::unique_ptr<const PinnedMemory> memory) {
  static std::mutex mutex;  // guards the one below
  static auto& kept = *new std::vector<std::unique_ptr<const PinnedMemory>>();
  const std::lock_guard guard(mutex);
  kept.push_back(std::move(memory));
}

// When a measurement is to end, at the latest.
struct Limits {
  Clock::time_point budget;
  Clock::time_point give_up;
  unsigned give_up_ms = 0;
  unsigned rounds = 1;

  [[nodiscard]] static Limits of(const DirectMeasureOptions& options) noexcept {
    const Clock::time_point now = Clock::now();
    return {.budget = now + std::chrono::milliseconds(options.budget_ms),
            .give_up = now + std::chrono::milliseconds(options.give_up_ms),
            .give_up_ms = options.give_up_ms,
            .rounds = std::clamp(options.rounds, 1U, kMostRounds)};
  }
  // Between any two steps, for a slow disk may take long for each of them.
  [[nodiscard]] Status check() const {
    if (Clock::now() < give_up) return Status::ok();
    return Status(Code::kDeadline, std::to_string(give_up_ms) + " ms were not enough for it");
  }
};

// Both ways, over one scratch file.
class Bench {
 public:
  Bench(DeviceLink& link, const DirectScratch& scratch, const Shape& shape, const Limits& limits,
        std::span<std::byte> host)
      : link_(link),
        scratch_(scratch),
        shape_(shape),
        limits_(limits),
        host_(host),
        block_{.parts = 1,
               .layers = 1,
               .outer = 1,
               .tokens_per_block = 1,
               .bytes_per_token = static_cast<std::uint32_t>(shape.block_bytes)} {}

  // Extents that were never written are not read from the disk.
  [[nodiscard]] Status write_file() {
    for (std::uint32_t region = 0; region < shape_.regions; ++region) {
      if (Status status = limits_.check(); !status.is_ok()) return status;
      fill_random(host_, static_cast<std::uint64_t>(Clock::now().time_since_epoch().count()));
      for (std::uint32_t i = 0; i < shape_.blocks; ++i) {
        written_.push_back(checksum_of(i, region * shape_.blocks + i));
      }
      if (Status status = write_scratch(scratch_, region * shape_.run_bytes(), host_); !status.is_ok()) return status;
    }
    return Status::ok();
  }

  [[nodiscard]] Status run() {
    // The first round warms up and does not count.
    for (unsigned round = 0; round <= limits_.rounds; ++round) {
      if (round > 1 && Clock::now() >= limits_.budget) break;
      for (const DirectLoad kind : kLoads) {
        if (shape_.blocks == 1 && kind != DirectLoad::kBlock) continue;
        // Who is first changes.
        for (const bool directly : {round % 2 == 0, round % 2 != 0}) {
          if (Status status = limits_.check(); !status.is_ok()) return status;
          const Result<double> seconds = time(next_load(kind), directly);
          if (!seconds.is_ok()) return seconds.status();
          if (round > 0) seconds_[static_cast<std::size_t>(kind)][directly ? 1 : 0].push_back(seconds.value());
        }
      }
    }
    return Status::ok();
  }

  [[nodiscard]] DirectFigures figures() {
    DirectFigures figures{.block_bytes = shape_.block_bytes, .run_bytes = shape_.run_bytes(), .loads = {}};
    for (std::size_t kind = 0; kind < kDirectLoadCount; ++kind) {
      const bool is_block = kind == static_cast<std::size_t>(DirectLoad::kBlock);
      // A run of one block is no other load.
      if (shape_.blocks == 1 && !is_block) {
        figures.loads[kind] = figures.loads[0];
        continue;
      }
      const auto bytes = static_cast<double>(is_block ? shape_.block_bytes : shape_.run_bytes());
      figures.loads[kind] = {.direct_gigabytes_per_second = bytes / median(seconds_[kind][1]) / 1e9,
                             .staged_gigabytes_per_second = bytes / median(seconds_[kind][0]) / 1e9};
    }
    return figures;
  }

 private:
  [[nodiscard]] Load next_load(DirectLoad kind) noexcept {
    const std::uint32_t number = loads_++;
    const std::uint32_t region = number % shape_.regions;
    if (kind != DirectLoad::kBlock) return {kind, region * shape_.blocks, shape_.blocks};
    return {kind, region * shape_.blocks + number / shape_.regions % shape_.blocks, 1};
  }

  [[nodiscard]] Result<double> time(const Load& load, bool directly) {
    came_.assign(load.count, Checksum{});
    const Clock::time_point begin = Clock::now();
    Status status = directly ? load_directly(load) : load_staged(load);
    const std::chrono::duration<double> took = Clock::now() - begin;
    if (!status.is_ok()) return status;
    if (!std::equal(came_.begin(), came_.end(), written_.begin() + load.first)) {
      return Status(Code::kIo, std::string("what was read ") + (directly ? "directly" : "through host memory") +
                                   " from " + scratch_.path + " is not what was written");
    }
    return std::max(took.count(), 1e-9);
  }

  // As DeviceRunner::load_directly().
  [[nodiscard]] Status load_directly(const Load& load) {
    payloads_.clear();
    for (std::uint32_t i = 0; i < load.count; ++i) {
      payloads_.push_back(
          {scratch_.buffer.base() + load.place_of(i) * shape_.block_bytes, seed_of_block(load.first + i)});
    }
    const std::uint32_t together = load.kind == DirectLoad::kRun ? load.count : 1;
    for (std::uint32_t i = 0; i < load.count; i += together) {
      if (Status status = scratch_.file.read((load.first + i) * shape_.block_bytes, scratch_.buffer,
                                             load.place_of(i) * shape_.block_bytes, together * shape_.block_bytes);
          !status.is_ok()) {
        return status;
      }
    }
    return link_.verifier()->make_checksums(block_, payloads_, came_);
  }

  // As DeviceRunner::load() does otherwise: a read, a checksum of each block, copies.
  [[nodiscard]] Status load_staged(const Load& load) {
    const std::span<std::byte> bytes = host_.first(load.count * shape_.block_bytes);
    if (Status status = read_scratch(scratch_, load.first * shape_.block_bytes, bytes); !status.is_ok()) return status;
    for (std::uint32_t i = 0; i < load.count; ++i) came_[i] = checksum_of(i, load.first + i);
    const std::uint32_t together = load.kind == DirectLoad::kRun ? load.count : 1;
    for (std::uint32_t i = 0; i < load.count; i += together) {
      if (Status status =
              scratch_.memory.queue_fill(load.place_of(i) * shape_.block_bytes,
                                         bytes.subspan(i * shape_.block_bytes, together * shape_.block_bytes));
          !status.is_ok()) {
        return status;
      }
    }
    return scratch_.memory.settle();
  }

  [[nodiscard]] Checksum checksum_of(std::uint32_t place, std::uint32_t block) const noexcept {
    return payload_checksum(host_.subspan(place * shape_.block_bytes, shape_.block_bytes), shape_.block_bytes,
                            seed_of_block(block));
  }

  DeviceLink& link_;
  const DirectScratch& scratch_;
  const Shape shape_;
  const Limits limits_;
  const std::span<std::byte> host_;
  const GroupShape block_;
  std::vector<Checksum> written_;  // by block of the file
  std::vector<Checksum> came_;
  std::vector<DeviceVerifier::Payload> payloads_;
  std::uint32_t loads_ = 0;
  std::array<std::array<std::vector<double>, 2>, kDirectLoadCount> seconds_;  // [DirectLoad][directly]
};

}  // namespace

Result<DirectFigures> measure_direct(const CufileDriver& driver, DeviceLink& link, int directory,
                                     const std::string& path, std::uint64_t slot_stride,
                                     const DirectMeasureOptions& options) {
  const Limits limits = Limits::of(options);
  const std::shared_ptr<const CudaContext>& context = link.context();
  if (link.verifier() == nullptr) return Status(Code::kUnsupported, "no kernel of kvtier's runs on this device");
  const auto current = CurrentContext::enter(*context);
  if (!current.is_ok()) return current.status();
  const Shape shape = Shape::of(slot_stride, options.most_bytes);
  auto buffer = HostBuffer::allocate(shape.run_bytes(), {.prefault = false});
  if (!buffer.is_ok()) return buffer.status();
  const auto memory = std::make_shared<HostBuffer>(std::move(buffer).value());
  auto pinned = PinnedMemory::make(context, memory, shape.run_bytes(), shape.block_bytes,
                                   {.first_part_bytes = shape.run_bytes(), .part_bytes = shape.run_bytes()});
  if (!pinned.is_ok()) return pinned.status();

  DirectFigures figures;
  const auto use = [&](const DirectScratch& scratch) {
    Bench bench(link, scratch, shape, limits, {memory->data(), shape.run_bytes()});
    Status measured = bench.write_file();
    if (measured.is_ok()) measured = bench.run();
    if (measured.is_ok()) {
      figures = bench.figures();
      return measured;
    }
    // Copies that were queued before the failure read the host memory. What cannot be waited for keeps it for ever; on
    // a device that is lost nothing is copied any more.
    const Status settled = scratch.memory.settle();
    if (!settled.is_ok() && settled.code() != Code::kDeviceLost) keep_for_ever(std::move(pinned).value());
    return measured;
  };
  Status status = with_direct_scratch(driver, context, directory, path,
                                      {.file_bytes = shape.file_bytes(), .device_bytes = shape.run_bytes()}, use);
  if (!status.is_ok()) return status;
  return figures;
}

}  // namespace kvtier
