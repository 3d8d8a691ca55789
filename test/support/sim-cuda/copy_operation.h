// Copies as queued work: any number of segments, cut into pieces that run in a drawn order, so that whoever looks too
// early sees a part of the bytes. Guarded by the simulator's one mutex.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "support/sim-cuda/operation.h"
#include "support/sim-cuda/region.h"

namespace kvtier::sim {

struct Segment {
  Place target;
  Place source;
  std::size_t bytes = 0;
  bool is_staged = false;  // the source was read before; the bytes are in `staged`
  std::vector<std::byte> staged;

  // Reads the source now, in no stream's order.
  void stage();
};

class CopyOperation final : public Operation {
 public:
  // `name` says what was asked for, for messages.
  CopyOperation(std::string name, std::vector<Segment> segments);

  Progress run(Journal& journal) override;
  [[nodiscard]] std::string_view kind() const override { return "copy"; }
  [[nodiscard]] std::string text() const override;

 private:
  struct Piece {
    std::size_t segment;
    std::size_t offset;
    std::size_t bytes;
  };
  void cut();
  [[nodiscard]] bool move(const Piece& piece, Journal& journal);

  std::string name_;
  std::vector<Segment> segments_;
  std::vector<Piece> pieces_;
  std::size_t next_ = 0;
  std::size_t pieces_a_run_ = 1;
};

class MemsetOperation final : public Operation {
 public:
  MemsetOperation(Place target, unsigned char value, std::size_t bytes);

  Progress run(Journal& journal) override;
  [[nodiscard]] std::string_view kind() const override { return "memset"; }
  [[nodiscard]] std::string text() const override;

 private:
  Place target_;
  unsigned char value_;
  std::size_t bytes_;
  std::size_t done_ = 0;
};

// Whether a place may still be touched; a violation is recorded where it may not.
[[nodiscard]] bool is_usable(const Place& place, std::string_view what, Journal& journal);

}  // namespace kvtier::sim
