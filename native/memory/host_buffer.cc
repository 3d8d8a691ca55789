#include "memory/host_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checked_size.h"
#include "platform/numa.h"
#include "platform/system_memory.h"
#include "platform/thread.h"

namespace kvtier {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
// A thread touches this much at a time; less than two pieces is not worth another thread.
constexpr std::size_t kPieceBytes = std::size_t{32} << 20;
constexpr unsigned kMaxTouchThreads = 64;

#if defined(__linux__)
// The value is the kernel's; older C libraries do not name it.
constexpr int kPopulateWrite = 23;
#endif

Status out_of_memory(std::size_t size_bytes, std::optional<std::uint64_t> available_bytes, const std::string& why) {
  const std::string available = available_bytes ? std::to_string(*available_bytes) : "an unknown number";
  return Status(Code::kOutOfMemory,
                std::to_string(size_bytes) + " bytes of host memory asked for, " + available + " available: " + why);
}

Status out_of_memory(std::size_t size_bytes, const std::string& why) {
  return out_of_memory(size_bytes, system_memory().available_bytes, why);
}

void touch_each_page(std::byte* data, std::size_t length) noexcept {
  const std::size_t page = static_cast<std::size_t>(::getpagesize());
  auto* const bytes = reinterpret_cast<unsigned char*>(data);
  // Writes what is there, or nothing where another thread writes the byte at the same time: then the page has its
  // frame. (An atomic 'or' of 0 says the same in less, but compilers may make a load of it.)
  for (std::size_t at = 0; at < length; at += page) {
    unsigned char seen = __atomic_load_n(bytes + at, __ATOMIC_RELAXED);
    (void)__atomic_compare_exchange_n(bytes + at, &seen, seen, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }
}

// 0, or an errno value.
int touch_pages(std::byte* data, std::size_t length, bool by_writing) noexcept {
#if defined(__linux__)
  while (!by_writing) {
    if (::madvise(data, length, kPopulateWrite) == 0) return 0;
    if (errno == EINTR) continue;
    if (errno != EINVAL && errno != ENOSYS) return errno;
    break;  // a kernel before 5.14
  }
#else
  (void)by_writing;
#endif
  touch_each_page(data, length);
  return 0;
}

// Gives every page of the range a frame. 0, or an errno value.
int touch_in_parallel(std::byte* data, std::size_t length, const TouchOptions& options) {
  const std::size_t pieces = (length + kPieceBytes - 1) / kPieceBytes;
  std::atomic<std::size_t> next{0};
  std::atomic<int> error{0};
  const auto ends_early = [&] {
    return error.load(std::memory_order_relaxed) != 0 ||
           (options.stop != nullptr && options.stop->load(std::memory_order_relaxed));
  };
  const auto work = [&] {
    for (;;) {
      const std::size_t piece = next.fetch_add(1, std::memory_order_relaxed);
      if (piece >= pieces || ends_early()) return;
      const std::size_t at = piece * kPieceBytes;
      const int failed = touch_pages(data + at, std::min(kPieceBytes, length - at), options.by_writing);
      if (failed != 0) error.store(failed);
    }
  };
  const std::size_t wanted = std::min<std::size_t>({std::max(options.threads, 1U), kMaxTouchThreads, pieces});
  // The caller's thread keeps its processors, so it touches only where they do not matter.
  const bool is_placed = !options.cpus.empty();
  const auto help = [&] {
    if (is_placed) (void)keep_thread_on(options.cpus);  // where that fails the memory is only further away
    work();
  };
  std::vector<Thread> helpers;
  for (std::size_t i = is_placed ? 0 : 1; i < wanted; ++i) {
    auto helper = Thread::start("kvtier-touch", help);
    if (!helper.is_ok()) break;  // fewer threads only take longer
    helpers.push_back(std::move(helper).value());
  }
  if (!is_placed || helpers.empty()) work();
  helpers.clear();  // joins
  return error.load();
}

// Touches every page that the range lies in; `data` begins one.
Status touch_range(std::byte* data, std::size_t length, std::size_t asked_bytes, const TouchOptions& options) {
  const std::size_t page = static_cast<std::size_t>(::getpagesize());
  const int error = touch_in_parallel(data, (length + page - 1) / page * page, options);
  if (error == 0) return Status::ok();
  return out_of_memory(asked_bytes, Status::from_errno(error, "touching it").message());
}

}  // namespace

Status check_room(std::size_t size_bytes, std::optional<std::uint64_t> available_bytes) {
  if (!available_bytes || size_bytes <= *available_bytes) return Status::ok();
  return out_of_memory(size_bytes, available_bytes, "more than is free");
}

Result<HostBuffer> HostBuffer::allocate(std::size_t size_bytes, const HostBufferOptions& options) {
  if (size_bytes == 0) return Status(Code::kInvalidValue, "0 bytes of host memory asked for; at least 1 is needed");
  const auto mapped = checked_round_up(size_bytes, kHugePageBytes);
  const auto reserved = mapped ? checked_sum(*mapped, kHugePageBytes) : std::nullopt;
  if (!reserved) return out_of_memory(size_bytes, "more than an address space holds");

  // A machine that overcommits hands out any size and ends the process at the first touch: ask before touching.
  if (options.prefault) {
    if (Status status = check_room(size_bytes, system_memory().available_bytes); !status.is_ok()) return status;
  }

  void* const address = ::mmap(nullptr, *reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return out_of_memory(size_bytes, Status::from_errno(errno, "mmap").message());

  // Keep the aligned part and give the rest back.
  std::byte* const start = static_cast<std::byte*>(address);
  const std::size_t skip = (kHugePageBytes - reinterpret_cast<std::uintptr_t>(start) % kHugePageBytes) % kHugePageBytes;
  if (skip != 0) ::munmap(start, skip);
  ::munmap(start + skip + *mapped, kHugePageBytes - skip);

  HostBuffer buffer;
  buffer.data_ = start + skip;
  buffer.size_ = size_bytes;
  buffer.mapped_ = *mapped;
#if defined(__linux__)
  // Without huge pages everything works, more slowly; `kvtier doctor` says whether they are on.
  (void)::madvise(buffer.data_, buffer.mapped_, MADV_HUGEPAGE);
  // A core dump must not hold prompts.
  (void)::madvise(buffer.data_, buffer.mapped_, MADV_DONTDUMP);
#endif
  if (options.prefault) {
    if (Status status = touch_range(buffer.data_, size_bytes, size_bytes, {.threads = options.threads}); !status) {
      return status;
    }
    buffer.is_touched_ = true;
  }
  return buffer;
}

Status HostBuffer::touch(std::size_t offset, std::size_t length, const TouchOptions& options) const {
  KVTIER_CHECK(offset <= size_ && length <= size_ - offset);
  if (is_touched_ || length == 0) return Status::ok();
  if (Status status = check_room(length, system_memory().available_bytes); !status) return status;
  const std::size_t page = static_cast<std::size_t>(::getpagesize());
  const std::size_t start = offset / page * page;
  return touch_range(data_ + start, length + (offset - start), length, options);
}

void HostBuffer::keep_from_children() noexcept {
#if defined(__linux__)
  if (data_ != nullptr) (void)::madvise(data_, mapped_, MADV_DONTFORK);
#endif
}

HostBuffer::~HostBuffer() {
  release();
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)),
      is_touched_(std::exchange(other.is_touched_, false)),
      keeps_addresses_(other.keeps_addresses_.exchange(false)) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    mapped_ = std::exchange(other.mapped_, 0);
    is_touched_ = std::exchange(other.is_touched_, false);
    keeps_addresses_ = other.keeps_addresses_.exchange(false);
  }
  return *this;
}

void HostBuffer::release() noexcept {
  constexpr int kFresh = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (data_ != nullptr && keeps_addresses_) {
    // Where that fails the old bytes stay, which is safe as well.
    (void)::mmap(data_, mapped_, PROT_READ | PROT_WRITE, kFresh, -1, 0);
  } else if (data_ != nullptr) {
    ::munmap(data_, mapped_);
  }
  data_ = nullptr;
  size_ = 0;
  mapped_ = 0;
  is_touched_ = false;
  keeps_addresses_ = false;
}

}  // namespace kvtier
