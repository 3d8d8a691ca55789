#include "platform/cufile/cufile_buffer.h"

#include <array>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "platform/cuda/cuda_error.h"
#include "platform/cufile/cufile_error.h"

namespace kvtier {
namespace {

std::string text_of(cuda::DevicePtr address, std::uint64_t size_bytes) {
  std::array<char, 32> digits{};
  std::snprintf(digits.data(), digits.size(), "0x%llx", static_cast<unsigned long long>(address));
  return std::to_string(size_bytes) + " bytes of device memory at " + digits.data();
}

Status was_freed(cuda::DevicePtr base, std::uint64_t size_bytes) {
  return Status(Code::kInvalidValue, text_of(base, size_bytes) +
                                         " were freed while they were registered with cuFile: let kvtier go of memory "
                                         "before you free it");
}

// The number of the allocation that has this address now.
cuda::Error buffer_id_of(const cuda::Functions& functions, cuda::DevicePtr address, std::uint64_t& id) {
  unsigned long long value = 0;
  const cuda::Error error = functions.pointer_get_attribute(&value, cuda::PointerAttribute::kBufferId, address);
  id = value;
  return error;
}

}  // namespace

struct CufileBuffer::Registry {
  using Key = std::tuple<const CufileDriver*, cuda::Context, cuda::DevicePtr>;

  // Never destroyed: storages of other threads may outlive main().
  [[nodiscard]] static Registry& get() {
    static Registry& one = *new Registry;
    return one;
  }
  [[nodiscard]] static Key key_of(const Registration& registration) {
    return {registration.driver, registration.context->handle(), registration.base};
  }

  std::mutex mutex;  // guards all registrations, and is held while cuFile registers and deregisters
  std::map<Key, Registration> registrations;
};

std::size_t CufileBuffer::registered_count() noexcept {
  Registry& registry = Registry::get();
  const std::lock_guard guard(registry.mutex);
  return registry.registrations.size();
}

Result<CufileBuffer::Registration> CufileBuffer::find_allocation(const CufileDriver& driver,
                                                                 std::shared_ptr<const CudaContext> context,
                                                                 cuda::DevicePtr address, std::uint64_t size_bytes) {
  const cuda::Functions& functions = context->functions();
  const std::string what = text_of(address, size_bytes);
  std::size_t allocated = 0;
  int ordinal = -1;
  Registration found;
  if (const cuda::Error error = functions.mem_get_address_range(&found.base, &allocated, address);
      error == cuda::Error::kNotFound || error == cuda::Error::kInvalidValue) {
    return Status(Code::kInvalidValue, what + " were to be registered with cuFile, and are not device memory");
  } else if (error != cuda::Error::kSuccess) {
    return cuda::to_status(functions, error, "cuMemGetAddressRange of " + what);
  }
  found.size_bytes = allocated;
  const std::uint64_t offset = address - found.base;
  if (size_bytes == 0 || offset > found.size_bytes || size_bytes > found.size_bytes - offset) {
    return Status(Code::kInvalidValue, what + " were to be registered with cuFile, of an allocation that has " +
                                           std::to_string(found.size_bytes) + " bytes of which " +
                                           std::to_string(offset) + " lie before");
  }
  if (found.base % kCufileAlignment != 0) {
    return Status(Code::kInvalidValue, what + " lie in an allocation that does not begin at a multiple of " +
                                           std::to_string(kCufileAlignment));
  }
  cuda::Error error = functions.pointer_get_attribute(&ordinal, cuda::PointerAttribute::kDeviceOrdinal, address);
  if (error == cuda::Error::kSuccess) error = buffer_id_of(functions, found.base, found.buffer_id);
  if (error != cuda::Error::kSuccess) return cuda::to_status(functions, error, "cuPointerGetAttribute of " + what);
  if (ordinal != context->device().ordinal) {
    return Status(Code::kInvalidValue, what + " lie on device " + std::to_string(ordinal) + "; device " +
                                           std::to_string(context->device().ordinal) + " was named");
  }
  found.driver = &driver;
  found.context = std::move(context);
  return found;
}

Result<CufileBuffer> CufileBuffer::register_range(const CufileDriver& driver,
                                                  std::shared_ptr<const CudaContext> context, cuda::DevicePtr address,
                                                  std::uint64_t size_bytes) {
  if (Status status = driver.check_device(context->device()); !status) return status;
  const auto current = CurrentContext::enter(*context);
  if (!current) return current.status();
  auto found = find_allocation(driver, std::move(context), address, size_bytes);
  if (!found) return found.status();
  Registration& wanted = found.value();

  Registry& registry = Registry::get();
  const std::lock_guard guard(registry.mutex);
  const Registry::Key key = Registry::key_of(wanted);
  if (const auto held = registry.registrations.find(key); held != registry.registrations.end()) {
    Registration& registration = held->second;
    if (registration.buffer_id == wanted.buffer_id) {
      ++registration.shares;
      return CufileBuffer(&registration);
    }
    // The address is another allocation's now.
    if (registration.shares != 0) return was_freed(registration.base, registration.size_bytes);
    if (Status status = deregister(registration); !status) return status;
    registry.registrations.erase(held);
  }
  const std::string what = text_of(wanted.base, wanted.size_bytes);
  if (registry.registrations.size() >= kMostRegistrations) {
    return Status(Code::kOutOfMemory, what + " were to be registered with cuFile beside " +
                                          std::to_string(registry.registrations.size()) +
                                          " other allocations: there may be no more");
  }
  const cufile::Outcome outcome =
      driver.functions().buffer_register(reinterpret_cast<const void*>(wanted.base), wanted.size_bytes, 0);
  if (outcome.error != cufile::Error::kSuccess) {
    return cufile::to_status(driver.cuda().functions(), outcome, "cuFileBufRegister of " + what);
  }
  wanted.shares = 1;
  return CufileBuffer(&registry.registrations.emplace(key, std::move(wanted)).first->second);
}

Status CufileBuffer::deregister(const Registration& registration) {
  // Without its context cuFile may still know what to do, on a device that was lost for example.
  const auto current = CurrentContext::enter(*registration.context);
  return cufile::to_status(
      registration.driver->cuda().functions(),
      registration.driver->functions().buffer_deregister(reinterpret_cast<const void*>(registration.base)),
      "cuFileBufDeregister of " + text_of(registration.base, registration.size_bytes));
}

Status CufileBuffer::release() noexcept {
  if (registration_ == nullptr) return Status::ok();
  Registry& registry = Registry::get();
  // The last hold on a context ends where no lock is held.
  std::shared_ptr<const CudaContext> context;
  const std::lock_guard guard(registry.mutex);
  Registration& registration = *std::exchange(registration_, nullptr);
  if (--registration.shares != 0) return Status::ok();
  if (Status status = deregister(registration); !status) return status;
  context = registration.context;
  registry.registrations.erase(Registry::key_of(registration));
  return Status::ok();
}

CufileBuffer::CufileBuffer(CufileBuffer&& other) noexcept
    : registration_(std::exchange(other.registration_, nullptr)) {}

CufileBuffer& CufileBuffer::operator=(CufileBuffer&& other) noexcept {
  std::swap(registration_, other.registration_);
  return *this;
}

CufileBuffer::~CufileBuffer() {
  (void)release();
}

Status CufileBuffer::check() const {
  const auto current = CurrentContext::enter(context());
  if (!current) return current.status();
  std::uint64_t id = 0;
  const cuda::Error error = buffer_id_of(context().functions(), base(), id);
  if (error == cuda::Error::kInvalidValue || (error == cuda::Error::kSuccess && id != registration_->buffer_id)) {
    return was_freed(base(), size_bytes());
  }
  return cuda::to_status(context().functions(), error, "cuPointerGetAttribute of " + text_of(base(), size_bytes()));
}

}  // namespace kvtier
