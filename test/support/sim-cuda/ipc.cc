#include "support/sim-cuda/ipc.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

namespace kvtier::sim {

FileHandle handle_of(std::uint64_t magic, int file, std::size_t bytes, const cuda::Uuid& device) {
  FileHandle handle;
  struct stat status {};
  if (::fstat(file, &status) == 0) handle.file_number = status.st_ino;
  handle.magic = magic;
  handle.process = ::getpid();
  handle.file = file;
  handle.bytes = bytes;
  handle.device = device;
  return handle;
}

Fd open_file(const FileHandle& handle) {
  const std::string path = "/proc/" + std::to_string(handle.process) + "/fd/" + std::to_string(handle.file);
  Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) != 0 || status.st_ino != handle.file_number) return Fd();
  return file;
}

Fd watch(int process) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
}

std::shared_ptr<SharedEvent> make_shared_event() {
  auto event = std::make_shared<SharedEvent>();
  event->file = Fd(::memfd_create("kvtier-sim-cuda-event", MFD_CLOEXEC));
  if (!event->file.is_open() || ::ftruncate(event->file.get(), static_cast<off_t>(page_bytes())) != 0) return nullptr;
  std::optional<Mapping> mapping = Mapping::of_file(event->file.get(), 0, page_bytes(), PROT_READ | PROT_WRITE);
  if (!mapping) return nullptr;
  event->mapping = std::move(*mapping);
  return event;
}

}  // namespace kvtier::sim
