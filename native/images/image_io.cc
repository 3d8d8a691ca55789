#include "images/image_io.h"

#include <string>
#include <utility>

namespace kvtier {
namespace {

// True where the bytes follow those of the last part.
bool extend(std::vector<iovec>& parts, const std::byte* bytes, std::size_t length) noexcept {
  if (parts.empty()) return false;
  iovec& last = parts.back();
  if (static_cast<const std::byte*>(last.iov_base) + last.iov_len != bytes) return false;
  last.iov_len += length;
  return true;
}

}  // namespace

ImageScatter::ImageScatter(const MemoryFile& file) : file_(file) {
  parts_.reserve(MemoryFile::kMaxParts);
}

void ImageScatter::add(std::uint64_t offset, std::byte* to, std::size_t length) {
  if (length == 0) return;
  if (offset != offset_ + length_) move();
  if (parts_.empty()) offset_ = offset;
  if (!extend(parts_, to, length)) {
    if (parts_.size() == MemoryFile::kMaxParts) {
      move();
      offset_ = offset;
    }
    parts_.push_back({to, length});
  }
  length_ += length;
}

void ImageScatter::move() {
  if (!parts_.empty() && status_.is_ok()) {
    const Result<std::uint64_t> moved = file_.read(offset_, parts_);
    if (!moved.is_ok()) {
      status_ = moved.status();
    } else if (moved.value() != length_) {
      status_ = Status(Code::kBadImage, "byte " + std::to_string(offset_ + moved.value()) +
                                            " of the state image: the file ends, which was longer when it was read");
    }
  }
  parts_.clear();
  offset_ += length_;
  length_ = 0;
}

Status ImageScatter::flush() {
  move();
  return status_;
}

}  // namespace kvtier
