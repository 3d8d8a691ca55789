// Runs one operation of a transfer: reads, checks, copies or writes its blocks and says what became of each. It changes
// bytes of slots and files only; the engine publishes checksums afterwards, when the outcome still counts. One a
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transfer/batch.h"

namespace kvtier {

// What became of an operation's blocks, in the plan's order. Valid until the next run().
struct OpResult {
  std::span<const Outcome> outcomes;
  std::span<const Checksum> checksums;  // of blocks whose outcome is OK; meaningless for paths that make none
  const std::string& message;           // of the first failure
};

class Runner {
 public:
  // `staging` is 4 KiB aligned and holds run_blocks(stride) slots for every persistent storage in use. With a target on
  // a device it reads and verifies only: block i is then in its via slot, or in slot i of `staging`.
  [[nodiscard]] OpResult run(const Batch& batch, const PlannedOp& op, std::span<std::byte> staging) noexcept;

 private:
  struct Context {
    const Batch& batch;
    const PlannedOp& op;
    std::span<std::byte> staging;

    [[nodiscard]] std::uint32_t index(std::uint32_t i) const noexcept { return batch.plan.order[op.first + i]; }
    [[nodiscard]] const Move& move(std::uint32_t i) const noexcept { return batch.request.moves[index(i)]; }
    [[nodiscard]] std::uint64_t seed(std::uint32_t i) const noexcept { return seed_of(batch.request.hashes[index(i)]); }
    [[nodiscard]] bool cancelled() const noexcept { return batch.is_given_up(); }
  };

  void copy(const Context& context) noexcept;
  void seal(const Context& context) noexcept;
  void fill(const Context& context) noexcept;
  void check(const Context& context) noexcept;
  void write(const Context& context) noexcept;
  void load(const Context& context) noexcept;
  // Blocks [first, first + count) of the operation, whose bytes are in landing_.
  void verify(const Context& context, std::uint32_t first, std::uint32_t count) noexcept;
  void verify_one(const Context& context, std::uint32_t i) noexcept;
  void fail(std::uint32_t first, std::uint32_t count, Code code, const std::string& message) noexcept;

  std::vector<Outcome> outcomes_;
  std::vector<Checksum> checksums_;
  std::vector<std::byte*> landing_;         // where read_run() puts each block
  std::vector<const std::byte*> payloads_;  // where write_run() takes each block from
  std::vector<BlockRecord> records_;
  std::string message_;
};

}  // namespace kvtier
