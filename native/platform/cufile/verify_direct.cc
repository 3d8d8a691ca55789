#include "platform/cufile/verify_direct.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <span>

#include "platform/cufile/direct_scratch.h"

namespace kvtier {
namespace {

constexpr std::size_t kTestBytes = std::size_t{1} << 20;
// Neither transfer begins where its file or buffer does.
constexpr std::uint64_t kFileOffset = 64 << 10;
constexpr std::uint64_t kBufferOffset = 4 << 10;

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

// Host memory for direct I/O.
class Page {
 public:
  [[nodiscard]] static Result<Page> make() {
    Page page;
    page.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kCufileAlignment, kTestBytes)));
    if (page.memory_ == nullptr) {
      return Status(Code::kOutOfMemory, std::to_string(kTestBytes) + " bytes of host memory are not there");
    }
    std::memset(page.memory_.get(), 0, kTestBytes);
    return page;
  }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {memory_.get(), kTestBytes}; }

 private:
  Page() = default;
  std::unique_ptr<std::byte, Free> memory_;
};

Status compare(std::span<const std::byte> found, std::span<const std::byte> wanted, const std::string& what) {
  const auto different = std::mismatch(wanted.begin(), wanted.end(), found.begin()).first;
  if (different == wanted.end()) return Status::ok();
  return Status(Code::kIo, what + " from byte " + std::to_string(different - wanted.begin()) + " on");
}

std::uint64_t fresh_seed() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^
         (static_cast<std::uint64_t>(::getpid()) << 40U);
}

// The bytes there and back again.
Status round_trips(const DirectScratch& scratch) {
  const auto wanted = Page::make();
  const auto found = Page::make();
  if (!wanted || !found) return (wanted ? found : wanted).status();
  const std::span<std::byte> given = wanted.value().bytes();
  const std::span<std::byte> came = found.value().bytes();
  const std::uint64_t seed = fresh_seed();

  fill_random(given, seed);
  Status status = scratch.memory.fill(kBufferOffset, given);
  if (status) status = scratch.file.write(kFileOffset, scratch.buffer, kBufferOffset, kTestBytes);
  if (status) status = read_scratch(scratch, kFileOffset, came);
  if (status) {
    status = compare(came, given, "what cuFile wrote from the GPU into " + scratch.path + " is read back otherwise");
  }
  if (!status) return status;

  // The memory still holds the other bytes: those that do not arrive are seen.
  fill_random(given, ~seed);
  status = write_scratch(scratch, kFileOffset, given);
  if (status) status = scratch.file.read(kFileOffset, scratch.buffer, kBufferOffset, kTestBytes);
  if (status) status = scratch.memory.copy_to(kBufferOffset, came);
  if (!status) return status;
  return compare(came, given, "what cuFile read into the GPU from " + scratch.path + " is not what is in the file");
}

}  // namespace

Status verify_direct(const CufileDriver& driver, const std::shared_ptr<const CudaContext>& context, int directory,
                     const std::string& path) {
  if (Status status = driver.check_device(context->device()); !status) return status;
  const auto current = CurrentContext::enter(*context);
  const DirectScratchSizes sizes{.file_bytes = kFileOffset + kTestBytes, .device_bytes = kBufferOffset + kTestBytes};
  Status status =
      current ? with_direct_scratch(driver, context, directory, path, sizes, round_trips) : current.status();
  if (status) return status;
  return Status(status.code(), "direct transfers between " + path + " and " + context->device().name + " (device " +
                                   std::to_string(context->device().ordinal) +
                                   ") were tried and do not work: " + status.message());
}

}  // namespace kvtier
