#include "device_work.h"

#include <utility>

#include "matrix_product.h"
#include "platform/cuda/cuda_error.h"
#include "transfer/device/strategies/single.h"

#if KVTIER_CUDA
// Read-only data, aligned as drivers expect it.
__asm__(
    ".pushsection .rodata.kvtier_product_image,\"a\",%progbits\n"
    ".balign 64\n"
    ".hidden kvtier_product_image\n"
    ".global kvtier_product_image\n"
    "kvtier_product_image:\n"
    ".incbin \"" LIMITS_PRODUCT_IMAGE
    "\"\n"
    ".popsection\n");
extern "C" const unsigned char kvtier_product_image[];
#endif

namespace limits {

using kvtier::Code;
using kvtier::Result;
using kvtier::Status;

namespace {

constexpr unsigned kMatrices = 3;

const void* product_image() noexcept {
#if KVTIER_CUDA
  return kvtier_product_image;
#else
  return nullptr;
#endif
}

// Small whole numbers, so that every sum of products is exact.
float element(unsigned matrix, std::uint64_t row, std::uint64_t column) noexcept {
  return static_cast<float>((row * (matrix + 3) + column * 7) % 5);
}

}  // namespace

Result<std::unique_ptr<DeviceWork>> DeviceWork::make(const std::string& library, int ordinal, std::uint32_t size) {
  if (size == 0 || size % kProductTile != 0 || size > (1U << 14)) {
    return Status(Code::kInvalidValue, "a matrix of " + std::to_string(size) + " rows");
  }
  if (product_image() == nullptr) return Status(Code::kUnsupported, "this build was made without CUDA's nvcc");
  auto context = kvtier::CudaContext::retain(kvtier::CudaDriver::get(library), ordinal);
  if (!context.is_ok()) return context.status();
  auto current = kvtier::CurrentContext::enter(*context.value());
  if (!current.is_ok()) return current.status();
  auto stream = kvtier::CudaStream::create(context.value(), kvtier::CudaStreamPriority::kNormal);
  if (!stream.is_ok()) return stream.status();
  auto start = kvtier::CudaEvent::create(context.value(), {.timing = true});
  if (!start.is_ok()) return start.status();
  auto end = kvtier::CudaEvent::create(context.value(), {.timing = true});
  if (!end.is_ok()) return end.status();
  auto memory = kvtier::DeviceMemory::allocate(context.value(), std::uint64_t{kMatrices} * size * size * sizeof(float));
  if (!memory.is_ok()) return memory.status();
  std::unique_ptr<DeviceWork> work(new DeviceWork(std::move(context).value(), size, std::move(stream).value(),
                                                  std::move(start).value(), std::move(end).value(),
                                                  std::move(memory).value()));
  if (Status status = work->load(); !status.is_ok()) return status;
  return work;
}

DeviceWork::DeviceWork(std::shared_ptr<const kvtier::CudaContext> context, std::uint32_t size,
                       kvtier::CudaStream stream, kvtier::CudaEvent start, kvtier::CudaEvent end,
                       kvtier::DeviceMemory memory)
    : context_(std::move(context)),
      size_(size),
      stream_(std::move(stream)),
      start_(std::move(start)),
      end_(std::move(end)),
      memory_(std::move(memory)) {}

DeviceWork::~DeviceWork() {
  const auto current = kvtier::CurrentContext::enter(*context_);
  static_cast<void>(stream_.synchronize());
  if (module_ != nullptr) static_cast<void>(context_->functions().module_unload(module_));
}

Status DeviceWork::load() {
  const kvtier::cuda::Functions& functions = context_->functions();
  auto error = functions.module_load_data(&module_, product_image());
  if (error == kvtier::cuda::Error::kSuccess) error = functions.module_get_function(&product_, module_, kProductName);
  if (error != kvtier::cuda::Error::kSuccess) {
    return {Code::kUnsupported, "the matrix product cannot be used: " +
                                    kvtier::cuda::to_status(functions, error, "cuModuleLoadData").message()};
  }
  std::vector<float> values(std::size_t{size_} * size_);
  for (unsigned matrix = 0; matrix < 2; ++matrix) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = element(matrix, i / size_, i % size_);
    if (Status status = copy_matrix(matrix, values, true); !status.is_ok()) return status;
  }
  return Status::ok();
}

std::uint64_t DeviceWork::address_of(unsigned matrix) const noexcept {
  return memory_.address() + std::uint64_t{matrix} * size_ * size_ * sizeof(float);
}

Status DeviceWork::copy_matrix(unsigned matrix, std::vector<float>& values, bool to_device) {
  const kvtier::cuda::Functions& functions = context_->functions();
  const auto error =
      kvtier::copy_run(functions, to_device, address_of(matrix), reinterpret_cast<std::uint64_t>(values.data()),
                       values.size() * sizeof(float), stream_.handle());
  if (error != kvtier::cuda::Error::kSuccess) return kvtier::cuda::to_status(functions, error, "a copy of a matrix");
  return stream_.synchronize();
}

Status DeviceWork::start(unsigned products) {
  const auto current = kvtier::CurrentContext::enter(*context_);
  if (!current.is_ok()) return current.status();
  const kvtier::cuda::Functions& functions = context_->functions();
  ProductLaunch launch{.left = address_of(0), .right = address_of(1), .result = address_of(2), .size = size_};
  const std::uint32_t tiles = (size_ / kProductTile) * (size_ / kProductTile);
  const unsigned blocks = (tiles + kProductThreads - 1) / kProductThreads;
  if (Status status = start_.record(stream_.handle()); !status.is_ok()) return status;
  for (unsigned i = 0; i < products; ++i) {
    void* parameters[] = {&launch};
    const auto error = functions.launch_kernel(product_, blocks, 1, 1, kProductThreads, 1, 1, 0, stream_.handle(),
                                               parameters, nullptr);
    if (error != kvtier::cuda::Error::kSuccess) return kvtier::cuda::to_status(functions, error, "cuLaunchKernel");
  }
  return end_.record(stream_.handle());
}

Result<bool> DeviceWork::is_done() const {
  const auto current = kvtier::CurrentContext::enter(*context_);
  if (!current.is_ok()) return current.status();
  return end_.is_done();
}

Result<double> DeviceWork::finish() {
  const auto current = kvtier::CurrentContext::enter(*context_);
  if (!current.is_ok()) return current.status();
  if (Status status = end_.synchronize(); !status.is_ok()) return status;
  float milliseconds = 0;
  const kvtier::cuda::Functions& functions = context_->functions();
  const auto error = functions.event_elapsed_time(&milliseconds, start_.handle(), end_.handle());
  if (error != kvtier::cuda::Error::kSuccess) return kvtier::cuda::to_status(functions, error, "cuEventElapsedTime");
  return static_cast<double>(milliseconds) / 1e3;
}

Result<bool> DeviceWork::is_right() {
  const auto current = kvtier::CurrentContext::enter(*context_);
  if (!current.is_ok()) return current.status();
  std::vector<float> values(std::size_t{size_} * size_);
  if (Status status = copy_matrix(2, values, false); !status.is_ok()) return status;
  for (const std::uint64_t row : {std::uint64_t{0}, std::uint64_t{size_} - 1}) {
    for (std::uint64_t column = 0; column < size_; ++column) {
      float sum = 0;
      for (std::uint64_t k = 0; k < size_; ++k) sum += element(0, row, k) * element(1, k, column);
      if (values[row * size_ + column] != sum) return false;
    }
  }
  return true;
}

}  // namespace limits
