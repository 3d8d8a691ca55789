#include "support/sim-cuda/kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "support/sim-cuda/functions.h"

namespace kvtier::sim {
namespace {

using cuda::Error;

constexpr std::uint64_t kPartsLimit = 6;  // parts that a launch runs in
constexpr unsigned char kElf[] = {0x7F, 'E', 'L', 'F'};
constexpr unsigned char kFatbin[] = {0x50, 0xED, 0x55, 0xBA};

struct KernelTable {
  std::mutex mutex;  // guards `entries`
  std::map<std::string, KernelEntry> entries;
};

// Never destroyed: host forms register and run until the process has ended.
KernelTable& kernel_table() {
  static KernelTable& table = *new KernelTable;
  return table;
}

thread_local LaunchOperation* current_launch = nullptr;

std::vector<std::max_align_t> storage_of(std::size_t bytes) {
  return std::vector<std::max_align_t>(bytes / sizeof(std::max_align_t) + 1);
}

// The number behind a directive, "8.4" being 84 for scale 10; 0 without one.
int directive(std::string_view ptx, std::string_view name) {
  const std::size_t at = ptx.find(name);
  if (at == std::string_view::npos) return 0;
  int value = 0;
  for (const char sign : ptx.substr(at + name.size())) {
    if (sign >= '0' && sign <= '9') {
      value = value * 10 + (sign - '0');
    } else if (sign != '.' && sign != ' ') {
      break;
    }
  }
  return value;
}

// CUDA 11.x reads PTX 7.x, 13.x 9.x and 12.x 8.x, where 12.6 still read 8.5; as ten times the version.
int newest_ptx(int driver_version) {
  const int major = driver_version / 1000;
  const int minor = driver_version % 1000 / 10;
  return (major - 4) * 10 + minor - (major == 12 && minor >= 6 ? 1 : 0);
}

}  // namespace

extern "C" KVTIER_SIM_EXPORT void kvtier_sim_register_kernel(const char* name, KernelForm form,
                                                             const std::size_t* parameter_bytes,
                                                             std::size_t parameter_count) {
  KernelTable& table = kernel_table();
  const std::lock_guard<std::mutex> guard(table.mutex);
  table.entries[name] = KernelEntry{form, {parameter_bytes, parameter_bytes + parameter_count}};
}

std::optional<KernelEntry> find_kernel(const std::string& name) {
  KernelTable& table = kernel_table();
  const std::lock_guard<std::mutex> guard(table.mutex);
  const auto found = table.entries.find(name);
  if (found == table.entries.end()) return std::nullopt;
  return found->second;
}

Error check_image(const void* image, int driver_version, int capability_major, int capability_minor, std::string& ptx) {
  if (image == nullptr) return Error::kInvalidValue;
  if (std::memcmp(image, kElf, sizeof(kElf)) == 0 || std::memcmp(image, kFatbin, sizeof(kFatbin)) == 0) {
    return Error::kSuccess;
  }
  const std::string_view text(static_cast<const char*>(image));
  if (text.find(".version") == std::string_view::npos || text.find(".target") == std::string_view::npos) {
    return Error::kInvalidImage;
  }
  if (directive(text, ".version") > newest_ptx(driver_version)) return Error::kUnsupportedPtxVersion;
  if (directive(text, ".target sm_") > capability_major * 10 + capability_minor) return Error::kNoBinaryForGpu;
  ptx = text;
  return Error::kSuccess;
}

LaunchOperation::LaunchOperation(Memory& memory, std::shared_ptr<FunctionState> function, const LaunchShape& shape,
                                 void* const* parameters)
    : memory_(memory), function_(std::move(function)), shape_(shape) {
  const std::vector<std::size_t>& sizes = function_->kernel.parameter_bytes;
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    values_.push_back(storage_of(sizes[index]));
    std::memcpy(values_.back().data(), parameters[index], sizes[index]);
    parameters_.push_back(values_.back().data());
  }
}

std::string LaunchOperation::text() const {
  return "cuLaunchKernel: " + function_->name;
}

LaunchOperation* LaunchOperation::current() {
  return current_launch;
}

void* LaunchOperation::alias(std::uint64_t pointer, std::size_t bytes) {
  std::byte* found = memory_.reach(*function_->context, pointer, bytes);
  if (found != nullptr) return found;
  fault(Error::kIllegalAddress);
  scratch_.push_back(storage_of(bytes));
  return scratch_.back().data();
}

void LaunchOperation::fault(Error error) {
  if (fault_ == Error::kSuccess) fault_ = error;
}

Progress LaunchOperation::run(Journal&) {
  if (parts_.empty()) {
    const std::uint64_t blocks = std::uint64_t{shape_.grid_x} * shape_.grid_y * shape_.grid_z;
    const std::uint64_t parts = std::min(blocks, kPartsLimit);
    for (std::uint64_t part = 0; part < parts; ++part) {
      parts_.push_back(shape_);
      parts_.back().block_begin = blocks * part / parts;
      parts_.back().block_end = blocks * (part + 1) / parts;
    }
    random.shuffle(parts_);
  }
  current_launch = this;
  function_->kernel.form(parts_[next_++], parameters_.data());
  current_launch = nullptr;
  if (fault_ != Error::kSuccess) {
    failure = fault_;
    return Progress::kFailed;
  }
  return next_ == parts_.size() ? Progress::kDone : Progress::kMore;
}

}  // namespace kvtier::sim
