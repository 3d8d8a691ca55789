// What the slab's tests share: a directory that goes away, aligned payloads whose bytes follow from their hash, stores
// of a small shape, and a stand-in for the system's file calls. One thread.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "digest/payload_checksum.h"
#include "platform/file_io.h"
#include "storage/slab/slab_storage.h"
#include "storage/slab/store_directory.h"
#include "storage/verify.h"

namespace kvtier::slab_rig {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* const parent = std::getenv("TMPDIR");
    path_ = std::string(parent != nullptr ? parent : "/tmp") + "/kvtier-slab-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline Fingerprint fingerprint_of(std::uint8_t number) {
  Fingerprint fingerprint{};
  fingerprint[0] = number;
  fingerprint[31] = 0xEE;
  return fingerprint;
}

inline std::unique_ptr<StoreDirectory> open_directory(const std::string& root, std::uint8_t fingerprint = 1) {
  auto directory = StoreDirectory::open(root, fingerprint_of(fingerprint));
  if (!directory.is_ok()) FAIL(directory.status().message());
  return std::move(directory).value();
}

// 5,000 bytes a block in slots of 8 KiB: the end of a slot is not part of the block.
inline constexpr GroupShape kShape{.parts = 1, .layers = 5, .outer = 2, .tokens_per_block = 10, .bytes_per_token = 50};
inline constexpr std::size_t kStride = 8192;

inline SlabOptions options_of(std::uint32_t slot_count, bool direct = true) {
  return {.group = 0, .shape = kShape, .slot_count = slot_count, .direct = direct};
}

inline std::unique_ptr<SlabStorage> open_slab_storage(const StoreDirectory& directory, const SlabOptions& options) {
  auto slab = SlabStorage::open(directory, options);
  if (!slab.is_ok()) FAIL(slab.status().message());
  return std::move(slab).value();
}

inline SlabContents recover(SlabStorage& slab, bool keep_orphans = false) {
  auto contents = slab.recover(keep_orphans);
  if (!contents.is_ok()) FAIL(contents.status().message());
  return std::move(contents).value();
}

// Bytes that look like a real hash and follow from a number.
inline SequenceHash hash_of(std::uint64_t number) {
  SequenceHash hash{};
  std::uint64_t word = number + 0x9E3779B97F4A7C15;
  for (std::size_t i = 0; i < hash.size(); ++i) {
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    hash[i] = static_cast<std::uint8_t>(word >> 32);
  }
  return hash;
}

// Payload buffers of whole slots, aligned for O_DIRECT.
class Payloads {
 public:
  explicit Payloads(std::size_t count)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(4096, count * kStride)), std::free), count_(count) {
    std::memset(bytes_.get(), 0, count * kStride);
  }
  [[nodiscard]] std::byte* at(std::size_t i) const { return bytes_.get() + i * kStride; }
  [[nodiscard]] std::span<const std::byte> block(std::size_t i) const { return {at(i), kShape.block_bytes()}; }
  [[nodiscard]] std::vector<std::byte*> pointers() const {
    std::vector<std::byte*> pointers;
    for (std::size_t i = 0; i < count_; ++i) pointers.push_back(at(i));
    return pointers;
  }
  [[nodiscard]] std::vector<const std::byte*> const_pointers() const {
    const std::vector<std::byte*> pointers = this->pointers();
    return {pointers.begin(), pointers.end()};
  }

 private:
  std::unique_ptr<std::byte, decltype(&std::free)> bytes_;
  std::size_t count_;
};

// The payload of block `number`, its end-of-slot filling included.
inline void fill_payload(std::byte* bytes, std::uint64_t number) {
  std::uint64_t word = number * 0xD6E8FEB86659FD93 + 1;
  for (std::size_t i = 0; i < kStride; ++i) {
    word = word * 6364136223846793005ULL + 1442695040888963407ULL;
    bytes[i] = static_cast<std::byte>(word >> 56);
  }
}

// A chain is blocks chain * 1000 + 0, 1, 2, ... whose depth is their place.
inline BlockRecord record_of(std::uint64_t number, std::span<const std::byte> block) {
  BlockRecord record;
  record.hash = hash_of(number);
  record.depth = static_cast<std::uint32_t>(number % 1000);
  if (record.depth != 0) record.parent = hash_of(number - 1);
  record.checksum = payload_checksum(block, kShape.part_bytes(), seed_of(record.hash));
  record.tenant_tag = static_cast<std::uint32_t>(number * 3);
  record.priority = static_cast<std::uint32_t>(number * 5);
  record.expires_at_s = static_cast<std::uint32_t>(number * 7);
  record.last_use_s = static_cast<std::uint32_t>(number * 11);
  return record;
}

// Stores the blocks in consecutive slots.
inline Status store(SlabStorage& slab, std::uint32_t first_slot, const std::vector<std::uint64_t>& numbers) {
  const Payloads payloads(numbers.size());
  std::vector<BlockRecord> records;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    fill_payload(payloads.at(i), numbers[i]);
    records.push_back(record_of(numbers[i], payloads.block(i)));
  }
  return slab.write_run(first_slot, payloads.const_pointers(), records);
}

enum class Found : std::uint8_t { kHit, kMiss, kWrong };

// Reads a slot as the engine does: only bytes that pass the check are a hit, and a hit must be the block's bytes.
inline Found load(SlabStorage& slab, std::uint32_t slot, std::uint64_t number) {
  const Payloads payload(1);
  std::byte* const buffer = payload.at(0);
  if (!slab.read_run(slot, std::span(&buffer, 1)).is_ok()) return Found::kMiss;
  const Checksum computed = payload_checksum(payload.block(0), kShape.part_bytes(), seed_of(hash_of(number)));
  if (!checksum_matches(slab.checksum_at(slot), computed)) return Found::kMiss;
  const Payloads expected(1);
  fill_payload(expected.at(0), number);
  return std::memcmp(buffer, expected.at(0), kShape.block_bytes()) == 0 ? Found::kHit : Found::kWrong;
}

inline std::vector<std::uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Overwrites bytes in the middle of a file.
inline void patch_file(const std::string& path, std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size()));
  ::close(fd);
}

inline void flip_byte(const std::string& path, std::uint64_t offset) {
  const std::uint8_t flipped = static_cast<std::uint8_t>(read_file(path).at(offset) ^ 0xFF);
  patch_file(path, offset, {&flipped, 1});
}

inline std::string table_path(const StoreDirectory& directory) {
  return directory.path() + "/group-0.table";
}
inline std::string slab_path(const StoreDirectory& directory) {
  return directory.path() + "/group-0.slab";
}

// Puts a stand-in in the place of the system's file calls while it lives.
class ScopedFileIo {
 public:
  explicit ScopedFileIo(FileIo& io) : before_(file_io()) { replace_file_io(&io); }
  ~ScopedFileIo() { replace_file_io(&before_); }
  ScopedFileIo(const ScopedFileIo&) = delete;
  ScopedFileIo& operator=(const ScopedFileIo&) = delete;

 private:
  // Of other tests, which are to find it again.
  FileIo& before_;
};

}  // namespace kvtier::slab_rig
