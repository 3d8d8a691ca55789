// Runs the operations of transfers that touch a GPU's memory, step by step: queues copies, and when they have come
// makes what the CPU has to make of the bytes. It changes bytes only; the engine publishes. One a thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "transfer/device/device_op.h"
#include "transfer/device/queue_copies.h"
#include "transfer/runner.h"

namespace kvtier {

class DeviceRunner {
 public:
  // The next step. True: the operation has ended, and its outcomes are known; false: it waits for a GPU. `reader` reads
  // and verifies what comes from disk. `staging` as for Runner.
  [[nodiscard]] bool run(const Batch& batch, const PlannedOp& op, Runner& reader, std::span<std::byte> staging,
                         DeviceOp& state);

 private:
  struct Context {
    const Batch& batch;
    const PlannedOp& op;
    Runner& reader;
    std::span<std::byte> staging;
    DeviceOp& state;

    [[nodiscard]] const TransferRequest& request() const noexcept { return batch.request; }
    [[nodiscard]] std::uint32_t index(std::uint32_t i) const noexcept { return batch.plan.order[op.first + i]; }
    [[nodiscard]] const Move& move(std::uint32_t i) const noexcept { return batch.request.moves[index(i)]; }
    [[nodiscard]] bool cancelled() const noexcept;
    // What it holds back queuing: each step of an operation looks again.
    [[nodiscard]] bool waits_first() const;
  };

  void begin(const Context& context);
  void copy(const Context& context);
  void load(const Context& context);
  // Directly between a disk and the device; false where another way is faster, or it failed before anything of the
  // operation was decided.
  [[nodiscard]] bool load_directly(const Context& context);
  // There is no other way from a device to a disk: what is measured counts for loads alone.
  void store_directly(const Context& context);
  void fill(const Context& context);
  void check_pattern(const Context& context);
  void checksum(const Context& context);
  // Queues copies of blocks whose pairs are in pairs_; what they are about arrives where that succeeds.
  void queue(const Context& context, const SharedStorage& device, const HostSide& host, bool to_device,
             ReadyEvents* ready);

  std::vector<SlotPair> pairs_;
  std::vector<std::uint32_t> moved_;  // by pair: position in the operation
  std::vector<DevicePayload> payloads_;
  std::vector<DeviceVerifier::Payload> hashed_;
  std::vector<BlockRecord> records_;
};

}  // namespace kvtier
