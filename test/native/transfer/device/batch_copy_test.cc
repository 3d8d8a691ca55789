// Batch copies: how many a call has, what a failure says, and why the order of access is what it is.
#include <numeric>

#include "native/transfer/device/copier_world.h"
#include "transfer/device/strategies/batch.h"

using namespace kvtier;
using namespace kvtier::test;
using cuda::SourceAccessOrder;

namespace {

// Device and host memory, copied in runs that do not touch.
class Runs {
 public:
  static constexpr std::size_t kBytes = 8;
  static constexpr std::size_t kPitch = 16;

  Runs(const CopierWorld& world, std::size_t count, unsigned char device_value, unsigned char host_value)
      : world_(world), count_(count), host_(count * kPitch, host_value) {
    REQUIRE(world.sim.cuda.mem_alloc(&device_, host_.size()) == cuda::Error::kSuccess);
    const Bytes values(host_.size(), device_value);
    REQUIRE(world.sim.write(device_, values.data(), values.size()) == 1);
    REQUIRE(world.sim.cuda.mem_host_register(host_.data(), host_.size(), cuda::kHostRegisterPortable) ==
            cuda::Error::kSuccess);
  }
  ~Runs() {
    (void)world_.sim.cuda.mem_host_unregister(host_.data());
    (void)world_.sim.cuda.mem_free(device_);
  }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;

  [[nodiscard]] CopyRect rect() const {
    return {.device = device_,
            .host = reinterpret_cast<std::uint64_t>(host_.data()),
            .width = kBytes,
            .rows = count_,
            .device_pitch = kPitch,
            .host_pitch = kPitch};
  }
  // How many of the host's bytes hold the value.
  [[nodiscard]] std::size_t on_host(unsigned char value) const {
    return static_cast<std::size_t>(std::count(host_.begin(), host_.end(), value));
  }
  [[nodiscard]] std::size_t on_device(unsigned char value) const {
    Bytes bytes(host_.size());
    REQUIRE(world_.sim.read(device_, bytes.data(), bytes.size()) == 1);
    return static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), value));
  }
  [[nodiscard]] cuda::DevicePtr device() const { return device_; }
  [[nodiscard]] std::size_t size() const { return host_.size(); }

 private:
  const CopierWorld& world_;
  const std::size_t count_;
  cuda::DevicePtr device_ = 0;
  Bytes host_;
};

Status copy(const CopierWorld& world, const Runs& runs, bool to_device, SourceAccessOrder order,
            const CudaStream& stream) {
  BatchScratch scratch;
  const CopyRect rect = runs.rect();
  return copy_batch(world.context->functions(), {&rect, 1}, to_device, order, scratch, stream.handle());
}

}  // namespace

TEST_CASE("batch copies: a call has 4,096 copies at most") {
  for (const auto& [count, calls] :
       {std::pair<std::size_t, std::uint64_t>{1, 1}, {4096, 1}, {4097, 2}, {5000, 2}, {8192, 2}, {8193, 3}}) {
    CAPTURE(count);
    const CopierWorld world;
    const Runs runs(world, count, 1, 2);
    const CudaStream stream = world.stream();
    REQUIRE(copy(world, runs, true, batch_order(true), stream).is_ok());
    REQUIRE(stream.synchronize().is_ok());
    CHECK(world.sim.calls("cuMemcpyBatchAsync") == calls);
    CHECK(world.sim.count("batch_descriptors") == count);
    CHECK(runs.on_device(2) == count * Runs::kBytes);
  }
}

TEST_CASE("batch copies: nothing to copy calls nothing") {
  const CopierWorld world;
  const CudaStream stream = world.stream();
  BatchScratch scratch;
  CHECK(copy_batch(world.context->functions(), {}, true, batch_order(true), scratch, stream.handle()).is_ok());
  CHECK(world.sim.calls("cuMemcpyBatchAsync") == 0);
}

TEST_CASE("batch copies: a failure names the call and the copy, and leaves nothing for the next call") {
  for (const int version : {12080, 13000}) {
    CAPTURE(version);
    const CopierWorld world("", version);
    const Runs runs(world, 4, 1, 2);
    const CudaStream stream = world.stream();
    BatchScratch scratch;
    std::vector<CopyRect> rects(3, runs.rect());
    for (std::size_t i = 0; i < rects.size(); ++i) {
      rects[i].rows = 1;
      rects[i].device += i * Runs::kPitch;
      rects[i].host += i * Runs::kPitch;
    }
    rects[2].device = 0;
    const cuda::Functions& functions = world.context->functions();
    const Status status = copy_batch(functions, rects, true, SourceAccessOrder::kStream, scratch, stream.handle());
    CHECK(status.code() == Code::kIo);
    CHECK(status.message() == std::string("cuMemcpyBatchAsync of 3 copies") +
                                  (version < 13000 ? ", at copy 2: " : ": ") +
                                  "CUDA_ERROR_INVALID_VALUE (invalid argument)");
    world.sim.fail_call("cuMemcpyBatchAsync", 1, 700, 1);
    const std::span<const CopyRect> good(rects.data(), 2);
    const Status lost = copy_batch(functions, good, true, SourceAccessOrder::kStream, scratch, stream.handle());
    CHECK(lost.code() == Code::kDeviceLost);
    CHECK(lost.message().find("at copy") == std::string::npos);
    REQUIRE(copy_batch(functions, good, true, SourceAccessOrder::kStream, scratch, stream.handle()).is_ok());
    CHECK(world.sim.count("batch_descriptors") == 3 + 2);
    REQUIRE(stream.synchronize().is_ok());
    CHECK(runs.on_device(2) == 2 * Runs::kBytes);
  }
}

TEST_CASE("batch copies: what the stream produces before is read after it, from the device") {
  const CopierWorld world("any_order=early hold=1");
  const Runs runs(world, 64, 1, 0);
  const CudaStream stream = world.stream();
  REQUIRE(world.sim.cuda.memset_d8_async(runs.device(), 2, runs.size(), stream.handle()) == cuda::Error::kSuccess);
  REQUIRE(copy(world, runs, false, batch_order(false), stream).is_ok());
  world.sim.release();
  REQUIRE(stream.synchronize().is_ok());
  CHECK(runs.on_host(2) == 64 * Runs::kBytes);
}

// The control of the test above: why the order is not kAny.
TEST_CASE("batch copies: with any order of access they would read the bytes of before, from the device") {
  const CopierWorld world("any_order=early hold=1");
  const Runs runs(world, 64, 1, 0);
  const CudaStream stream = world.stream();
  REQUIRE(world.sim.cuda.memset_d8_async(runs.device(), 2, runs.size(), stream.handle()) == cuda::Error::kSuccess);
  REQUIRE(copy(world, runs, false, SourceAccessOrder::kAny, stream).is_ok());
  world.sim.release();
  REQUIRE(stream.synchronize().is_ok());
  CHECK(runs.on_host(2) == 0);
  CHECK(runs.on_host(1) == 64 * Runs::kBytes);
}

TEST_CASE("batch copies: to the device, host bytes that are complete and stay arrive whenever they are read") {
  for (const char* order : {"any_order=early", "any_order=late", "any_order=random"}) {
    CAPTURE(order);
    const CopierWorld world(std::string("hold=1 ") + order);
    const Runs runs(world, 64, 1, 5);
    const CudaStream stream = world.stream();
    // What the slots held before is still being written.
    REQUIRE(world.sim.cuda.memset_d8_async(runs.device(), 3, runs.size(), stream.handle()) == cuda::Error::kSuccess);
    REQUIRE(copy(world, runs, true, batch_order(true), stream).is_ok());
    world.sim.release();
    REQUIRE(stream.synchronize().is_ok());
    CHECK(runs.on_device(5) == 64 * Runs::kBytes);
    CHECK(runs.on_device(3) == 64 * (Runs::kPitch - Runs::kBytes));
  }
}

TEST_CASE("batch copies: default streams and drivers without the call are told apart") {
  const CopierWorld world;
  CHECK(!takes_batches(cuda::kLegacyStream));
  CHECK(!takes_batches(reinterpret_cast<cuda::Stream>(std::uintptr_t{2})));
  CHECK(takes_batches(world.stream().handle()));
  cuda::Functions functions = world.context->functions();
  CHECK(has_batch_copies(functions));
  functions.memcpy_batch_async_13000 = nullptr;
  CHECK(has_batch_copies(functions));
  functions.memcpy_batch_async_12080 = nullptr;
  CHECK(!has_batch_copies(functions));
}
