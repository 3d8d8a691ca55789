#include "support/sim-cuda/copy_operation.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvtier::sim {
namespace {

constexpr std::size_t kCutBytes = 16;                            // pieces end on multiples of this
constexpr std::size_t kPieceLimitBytes = std::size_t{1} << 20U;  // so that calls do not wait long
constexpr std::size_t kManySegments = 16;                        // from here on, a segment is a piece
constexpr std::size_t kRuns = 8;                                 // parts that many segments run in

}  // namespace

bool is_usable(const Place& place, std::string_view what, Journal& journal) {
  const Region* region = place.region.get();
  if (region == nullptr || (!region->gone && !region->is_orphan())) return true;
  journal.violation("queued work, " + std::string(what) + ", touches " + region->text() + ", which is gone");
  return false;
}

void Segment::stage() {
  staged.assign(source.bytes, source.bytes + bytes);
  is_staged = true;
  // What was read early is not used later.
  source = Place();
}

CopyOperation::CopyOperation(std::string name, std::vector<Segment> segments)
    : name_(std::move(name)), segments_(std::move(segments)) {}

std::string CopyOperation::text() const {
  std::size_t bytes = 0;
  for (const Segment& segment : segments_) bytes += segment.bytes;
  return name_ + ": copy of " + std::to_string(bytes) + " bytes in " + std::to_string(segments_.size()) + " segments";
}

void CopyOperation::cut() {
  const bool many = segments_.size() >= kManySegments;
  for (std::size_t index = 0; index < segments_.size(); ++index) {
    const std::size_t bytes = segments_[index].bytes;
    std::size_t piece_bytes = bytes;
    if (!many && bytes >= 2 * kCutBytes) {
      const std::size_t parts = 2 + random.below(3);
      piece_bytes = std::max(kCutBytes, bytes / parts / kCutBytes * kCutBytes);
    }
    piece_bytes = std::min(piece_bytes, kPieceLimitBytes);
    for (std::size_t offset = 0; offset < bytes; offset += piece_bytes) {
      pieces_.push_back(Piece{index, offset, std::min(piece_bytes, bytes - offset)});
    }
  }
  random.shuffle(pieces_);
  pieces_a_run_ = many ? (pieces_.size() + kRuns - 1) / kRuns : 1;
}

bool CopyOperation::move(const Piece& piece, Journal& journal) {
  const Segment& segment = segments_[piece.segment];
  if (!is_usable(segment.target, name_, journal) || !is_usable(segment.source, name_, journal)) return false;
  const std::byte* source = segment.is_staged ? segment.staged.data() : segment.source.bytes;
  std::memcpy(segment.target.bytes + piece.offset, source + piece.offset, piece.bytes);
  return true;
}

Progress CopyOperation::run(Journal& journal) {
  if (pieces_.empty()) cut();
  const std::size_t end = std::min(pieces_.size(), next_ + pieces_a_run_);
  std::size_t moved = 0;
  for (; next_ < end && moved < kPieceLimitBytes; ++next_) {
    if (!move(pieces_[next_], journal)) {
      failure = cuda::Error::kIllegalAddress;
      return Progress::kFailed;
    }
    moved += pieces_[next_].bytes;
  }
  return next_ == pieces_.size() ? Progress::kDone : Progress::kMore;
}

MemsetOperation::MemsetOperation(Place target, unsigned char value, std::size_t bytes)
    : target_(std::move(target)), value_(value), bytes_(bytes) {}

std::string MemsetOperation::text() const {
  return "cuMemsetD8Async: " + std::to_string(bytes_) + " bytes";
}

Progress MemsetOperation::run(Journal& journal) {
  if (!is_usable(target_, "cuMemsetD8Async", journal)) {
    failure = cuda::Error::kIllegalAddress;
    return Progress::kFailed;
  }
  const std::size_t half = std::max<std::size_t>(bytes_ / 2, 1);
  const std::size_t part = std::min({bytes_ - done_, half, kPieceLimitBytes});
  std::memset(target_.bytes + done_, value_, part);
  done_ += part;
  return done_ == bytes_ ? Progress::kDone : Progress::kMore;
}

}  // namespace kvtier::sim
