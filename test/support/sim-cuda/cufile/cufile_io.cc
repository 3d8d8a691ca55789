// cuFile's calls about files, buffers and transfers. They run in the calling thread and in no stream's order. Any
// thread.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "support/sim-cuda/cufile/cufile_state.h"
#include "support/sim-cuda/functions.h"
#include "support/sim-cuda/sim_control.h"

#define KVTIER_SIM_CUFILE extern "C" KVTIER_SIM_EXPORT

namespace {

using namespace kvtier::sim::cufile;  // the whole file is about it

using Lock = std::unique_lock<std::mutex>;

constexpr std::size_t kAlignmentBytes = 4096;
constexpr const char* kHolder = "cuFile";
constexpr std::uintptr_t kFirstHandle = std::uintptr_t{0x0BADF11E} << 32U;

// Files and buffers that are named before cuFileDriverOpen open the driver.
int open_driver(State& all) {
  if (!all.has_driver && !all.allows_compat()) return number_of(Error::kNvfsSetupError);
  if (all.opens == 0) all.opens = 1;
  return 0;
}

struct Transfer {
  bool is_write = false;
  std::uintptr_t handle = 0;
  std::uintptr_t base = 0;
  std::size_t bytes = 0;
  off_t file_offset = 0;
  off_t buffer_offset = 0;

  [[nodiscard]] const char* name() const { return is_write ? "cuFileWrite" : "cuFileRead"; }
  [[nodiscard]] std::uintptr_t address() const { return base + static_cast<std::uintptr_t>(buffer_offset); }
  [[nodiscard]] bool is_aligned() const {
    return (bytes | static_cast<std::size_t>(file_offset) | address()) % kAlignmentBytes == 0;
  }
};

// Where the transfer's bytes lie, held until release(); nullptr: `code` says why not.
std::byte* hold_memory(State& all, const Transfer& transfer, Buffer*& buffer, int& code) {
  const auto after = all.buffers.upper_bound(transfer.base);
  if (after != all.buffers.begin()) {
    auto& [base, found] = *std::prev(after);
    if (transfer.base - base < found.bytes) {
      const std::size_t offset = transfer.address() - base;
      if (offset > found.bytes || transfer.bytes > found.bytes - offset) {
        code = number_of(Error::kCudaPointerRangeError);
        return nullptr;
      }
      if (transfer.base != base) ++all.counts["sub_pointer"];
      buffer = &found;
      ++found.transfers;
      return found.alias + offset;
    }
  }
  ++all.counts["unregistered"];
  auto* alias = static_cast<std::byte*>(kvtier_sim_pin(transfer.address(), transfer.bytes, kHolder));
  if (alias == nullptr) code = number_of(Error::kCudaPointerInvalid);
  return alias;
}

ssize_t move_bytes(const Transfer& transfer, int fd, std::byte* memory, std::size_t bytes) {
  for (;;) {
    const ssize_t moved = transfer.is_write ? ::pwrite(fd, memory, bytes, transfer.file_offset)
                                            : ::pread(fd, memory, bytes, transfer.file_offset);
    if (moved >= 0 || errno != EINTR) return moved;
  }
}

ssize_t run(const Transfer& transfer) {
  State& all = state();
  Lock guard(all.mutex);
  if (const int code = all.enter(transfer.name()); code != 0) {
    if (code >= kvtier::cufile::kErrorBase) return -code;
    errno = code;
    return -1;
  }
  const auto found = all.files.find(transfer.handle);
  if (found == all.files.end()) {
    kvtier_sim_report((std::string(transfer.name()) + ": the file is not registered").c_str());
    return -number_of(Error::kHandleNotRegistered);
  }
  if (kvtier_sim_has_context() == 0) return -number_of(Error::kInvalidContextError);
  if (transfer.file_offset < 0 || transfer.buffer_offset < 0 || transfer.bytes == 0)
    return -number_of(Error::kInvalidValue);
  Buffer* buffer = nullptr;
  int code = 0;
  std::byte* memory = hold_memory(all, transfer, buffer, code);
  if (memory == nullptr) return -code;
  File& file = found->second;
  ++file.transfers;
  const std::size_t bytes = all.limit(transfer.bytes);
  if (!transfer.is_aligned()) ++all.counts["unaligned"];
  if (!file.is_direct) ++all.counts["indirect"];
  if (!all.has_driver || all.forced) ++all.counts["compat"];
  const bool direct = transfer.is_aligned() && bytes % kAlignmentBytes == 0;
  const int fd = direct || !file.is_direct ? file.fd : file.buffered.get();
  guard.unlock();
  const ssize_t moved = move_bytes(transfer, fd, memory, bytes);
  const int error = errno;
  guard.lock();
  --file.transfers;
  if (buffer != nullptr) {
    --buffer->transfers;
  } else {
    kvtier_sim_unpin(transfer.address(), kHolder);
  }
  errno = error;
  return moved;
}

}  // namespace

KVTIER_SIM_CUFILE Outcome cuFileHandleRegister(Handle* handle, Description* description) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileHandleRegister"); code != 0) return outcome_of(code);
  if (handle == nullptr || description == nullptr || description->type != HandleType::kFileDescriptor)
    return outcome_of(Error::kInvalidValue);
  if (const int code = open_driver(all); code != 0) return outcome_of(code);
  const int fd = description->file.fd;
  const int flags = ::fcntl(fd, F_GETFL);
  struct stat status {};
  if (flags < 0 || ::fstat(fd, &status) != 0) return outcome_of(Error::kInvalidValue);
  constexpr int kRefused = O_APPEND | O_NONBLOCK | O_DIRECTORY | O_NOFOLLOW;
  if ((flags & kRefused) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
    ++all.counts["refused_files"];
    return outcome_of(Error::kInvalidFileOpenFlag);
  }
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return outcome_of(Error::kInvalidFileType);
  for (const auto& [number, file] : all.files) {
    if (file.fd == fd) return outcome_of(Error::kHandleAlreadyRegistered);
  }
  File file;
  file.fd = fd;
  file.file_number = status.st_ino;
  file.is_direct = (flags & O_DIRECT) != 0;
  if (file.is_direct) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    file.buffered = kvtier::sim::Fd(::open(path.c_str(), (flags & O_ACCMODE) | O_CLOEXEC));
    if (!file.buffered.is_open()) return outcome_of(Error::kInvalidValue);
  }
  const std::uintptr_t number = kFirstHandle + 16 * ++all.files_given;
  all.files.emplace(number, std::move(file));
  *handle = reinterpret_cast<Handle>(number);
  return {};
}

KVTIER_SIM_CUFILE void cuFileHandleDeregister(Handle handle) {
  State& all = state();
  const Lock guard(all.mutex);
  (void)all.enter("cuFileHandleDeregister");
  const auto found = all.files.find(reinterpret_cast<std::uintptr_t>(handle));
  if (found == all.files.end()) {
    kvtier_sim_report("cuFileHandleDeregister: the file is not registered");
    return;
  }
  const File& file = found->second;
  struct stat status {};
  if (::fstat(file.fd, &status) != 0 || status.st_ino != file.file_number) {
    kvtier_sim_report("cuFileHandleDeregister: the file was closed before");
  }
  if (file.transfers > 0) {
    kvtier_sim_report("cuFileHandleDeregister: a transfer is under way");
    return;
  }
  all.files.erase(found);
}

KVTIER_SIM_CUFILE Outcome cuFileBufRegister(const void* base, std::size_t bytes, int) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileBufRegister"); code != 0) return outcome_of(code);
  if (const int code = open_driver(all); code != 0) return outcome_of(code);
  if (base == nullptr || bytes == 0) return outcome_of(Error::kInvalidValue);
  if (kvtier_sim_has_context() == 0) return outcome_of(Error::kInvalidContextError);
  const auto address = reinterpret_cast<std::uintptr_t>(base);
  if (all.buffers.contains(address)) return outcome_of(Error::kMemoryAlreadyRegistered);
  auto* alias = static_cast<std::byte*>(kvtier_sim_pin(address, bytes, kHolder));
  if (alias == nullptr) return outcome_of(Error::kCudaPointerInvalid);
  all.buffers.emplace(address, Buffer{.bytes = bytes, .alias = alias});
  return {};
}

KVTIER_SIM_CUFILE Outcome cuFileBufDeregister(const void* base) {
  State& all = state();
  const Lock guard(all.mutex);
  if (const int code = all.enter("cuFileBufDeregister"); code != 0) return outcome_of(code);
  const auto found = all.buffers.find(reinterpret_cast<std::uintptr_t>(base));
  if (found == all.buffers.end()) return outcome_of(Error::kMemoryNotRegistered);
  if (found->second.transfers > 0) {
    kvtier_sim_report("cuFileBufDeregister: a transfer is under way");
    return outcome_of(Error::kInvalidValue);
  }
  kvtier_sim_unpin(found->first, kHolder);
  all.buffers.erase(found);
  return {};
}

KVTIER_SIM_CUFILE ssize_t cuFileRead(Handle handle, void* base, std::size_t bytes, off_t file_offset,
                                     off_t buffer_offset) {
  return run(Transfer{.is_write = false,
                      .handle = reinterpret_cast<std::uintptr_t>(handle),
                      .base = reinterpret_cast<std::uintptr_t>(base),
                      .bytes = bytes,
                      .file_offset = file_offset,
                      .buffer_offset = buffer_offset});
}

KVTIER_SIM_CUFILE ssize_t cuFileWrite(Handle handle, const void* base, std::size_t bytes, off_t file_offset,
                                      off_t buffer_offset) {
  return run(Transfer{.is_write = true,
                      .handle = reinterpret_cast<std::uintptr_t>(handle),
                      .base = reinterpret_cast<std::uintptr_t>(base),
                      .bytes = bytes,
                      .file_offset = file_offset,
                      .buffer_offset = buffer_offset});
}
