#include "images/image_cursor.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/checked_size.h"

namespace kvtier {

static_assert(std::endian::native == std::endian::little, "an image's numbers lie in the file as they lie in memory");

namespace {

std::string range(std::uint64_t least, std::uint64_t most) {
  return least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most);
}

}  // namespace

ImageCursor::ImageCursor(const MemoryFile& file) : file_(file) {
  Result<std::uint64_t> size = file.size();
  if (size.is_ok()) {
    size_bytes_ = size.value();
  } else {
    fail(size.status());
  }
}

void ImageCursor::fail(Status status) {
  if (is_ok()) status_ = std::move(status);
}

void ImageCursor::fail(std::uint64_t at, const std::string& what, const std::string& was, const std::string& expected) {
  fail(Status(Code::kBadImage,
              "byte " + std::to_string(at) + " of the state image: " + what + " is " + was + "; expected " + expected));
}

bool ImageCursor::has(const std::string& what, std::uint64_t count, std::uint64_t size_bytes) {
  if (!is_ok()) return false;
  const auto bytes = checked_product(count, size_bytes);
  if (bytes && *bytes <= left()) return true;
  fail(Status(Code::kBadImage, "byte " + std::to_string(offset_) + " of the state image: " + what + " would take " +
                                   std::to_string(count) + " times " + std::to_string(size_bytes) + " bytes; " +
                                   std::to_string(left()) + " are left"));
  return false;
}

void ImageCursor::read(void* bytes, std::size_t length) {
  iovec part{bytes, length};
  const Result<std::uint64_t> moved = file_.read(offset_, {&part, 1});
  if (!moved.is_ok()) {
    fail(moved.status());
  } else if (moved.value() != length) {
    fail(offset_, "the file's length", std::to_string(offset_ + moved.value()),
         std::to_string(size_bytes_) + ", which it had before");
  }
  offset_ += length;
}

std::uint32_t ImageCursor::u32(const std::string& what, std::uint32_t least, std::uint32_t most) {
  std::uint32_t value = least;
  const std::uint64_t at = offset_;
  if (!has(what, 1, sizeof(value))) return least;
  read(&value, sizeof(value));
  if (value < least || value > most) fail(at, what, std::to_string(value), range(least, most));
  return is_ok() ? value : least;
}

std::uint64_t ImageCursor::u64(const std::string& what, std::uint64_t least, std::uint64_t most) {
  std::uint64_t value = least;
  const std::uint64_t at = offset_;
  if (!has(what, 1, sizeof(value))) return least;
  read(&value, sizeof(value));
  if (value < least || value > most) fail(at, what, std::to_string(value), range(least, most));
  return is_ok() ? value : least;
}

std::uint64_t ImageCursor::skip(const std::string& what, std::uint64_t count, std::uint64_t size_bytes) {
  const std::uint64_t at = offset_;
  if (has(what, count, size_bytes)) offset_ += count * size_bytes;
  return at;
}

}  // namespace kvtier
