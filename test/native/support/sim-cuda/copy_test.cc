// Copies of the simulated driver: batches, rectangles, between devices.
#include <algorithm>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;
using kvtier::cuda::Copy2D;
using kvtier::cuda::CopyAttributes;
using kvtier::cuda::DevicePtr;
using kvtier::cuda::MemoryType;
using kvtier::cuda::SourceAccessOrder;
using kvtier::cuda::Stream;

// Copies of 16 bytes each from one buffer to another, as one batch.
struct Batch {
  Batch(DevicePtr target, DevicePtr source, std::size_t count) : sizes(count, 16), attributes(1), starts(1, 0) {
    attributes[0].source_access_order = SourceAccessOrder::kStream;
    for (std::size_t index = 0; index < count; ++index) {
      targets.push_back(target + 16 * index);
      sources.push_back(source + 16 * index);
    }
  }

  Error submit(const World& world, Stream stream) {
    return world.cuda.memcpy_batch_async_13000(targets.data(), sources.data(), sizes.data(), sizes.size(),
                                               attributes.data(), starts.data(), starts.size(), stream);
  }

  std::vector<DevicePtr> targets;
  std::vector<DevicePtr> sources;
  std::vector<std::size_t> sizes;
  std::vector<CopyAttributes> attributes;
  std::vector<std::size_t> starts;
};

}  // namespace

TEST_CASE("sim-cuda: a batch moves all its copies, in parts that can be seen") {
  const World world("hold=1");
  constexpr std::size_t kCount = 100;
  const DevicePtr device = world.allocate(16 * kCount, 5);
  Pinned host(16 * kCount);
  const Stream stream = world.stream();
  Batch batch(host.address(), device, kCount);
  REQUIRE(batch.submit(world, stream) == Error::kSuccess);
  CHECK(world.sim.count("batch_descriptors") == kCount);
  CHECK(world.sim.step_piece(stream) == 1);
  CHECK(host.count(5) > 0);
  CHECK(host.count(5) < host.size());
  // Not the first ones first.
  bool in_order = true;
  for (std::size_t index = 1; index < host.size(); ++index) in_order = in_order && host[index - 1] >= host[index];
  CHECK_FALSE(in_order);
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(host.count(5) == host.size());
}

TEST_CASE("sim-cuda: a batch is refused for attributes that do not fit its copies") {
  const World world;
  const DevicePtr device = world.allocate(64, 5);
  Pinned host(64);
  const Stream stream = world.stream();
  const auto refused = [&](auto&& change) {
    Batch batch(host.address(), device, 4);
    change(batch);
    return batch.submit(world, stream) == Error::kInvalidValue;
  };
  CHECK(refused([](Batch& batch) { batch.starts[0] = 1; }));
  CHECK(refused([](Batch& batch) { batch.attributes[0].source_access_order = SourceAccessOrder::kInvalid; }));
  CHECK(refused([](Batch& batch) { batch.attributes[0].flags = 2; }));
  CHECK(refused([](Batch& batch) { batch.sizes[2] = 0; }));
  CHECK(refused([](Batch& batch) { batch.starts.clear(); }));
  CHECK(refused([](Batch& batch) {
    batch.attributes.resize(3, batch.attributes[0]);
    batch.starts = {0, 2, 2};
  }));
  CHECK(refused([](Batch& batch) {
    batch.attributes.resize(2, batch.attributes[0]);
    batch.starts = {0, 4};
  }));
  Batch batch(host.address(), device, 4);
  batch.attributes.resize(2, batch.attributes[0]);
  batch.starts = {0, 3};
  CHECK(batch.submit(world, nullptr) == Error::kInvalidValue);
  CHECK(batch.submit(world, reinterpret_cast<Stream>(1)) == Error::kInvalidValue);
  CHECK(batch.submit(world, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  CHECK(host.count(5) == 64);
}

TEST_CASE("sim-cuda: the older form of the batch says which copy failed") {
  const World world;
  const DevicePtr device = world.allocate(64, 5);
  Pinned host(64);
  const Stream stream = world.stream();
  Batch batch(host.address(), device, 4);
  std::size_t failed = 77;
  const auto submit = [&] {
    return world.cuda.memcpy_batch_async_12080(batch.targets.data(), batch.sources.data(), batch.sizes.data(), 4,
                                               batch.attributes.data(), batch.starts.data(), 1, &failed, stream);
  };
  CHECK(submit() == Error::kSuccess);
  CHECK(failed == SIZE_MAX);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  batch.sources[2] = device + 60;
  CHECK(submit() == Error::kInvalidValue);
  CHECK(failed == 2);
  CHECK(has(world.violation(), "leaves"));
}

TEST_CASE("sim-cuda: a batch with too many copies, or with copies that depend on each other, is a violation") {
  const World world("batch_limit=8");
  const DevicePtr device = world.allocate(256, 5);
  Pinned host(256);
  const Stream stream = world.stream();
  Batch large(host.address(), device, 9);
  CHECK(large.submit(world, stream) == Error::kSuccess);
  CHECK(has(world.violation(), "a batch of 9 copies"));
  Batch same_target(host.address(), device, 4);
  same_target.targets[3] = same_target.targets[0] + 8;
  CHECK(same_target.submit(world, stream) == Error::kSuccess);
  CHECK(has(world.violation(), "depend"));
  Batch chained(device, device + 16, 1);
  chained.targets.push_back(device + 64);
  chained.sources.push_back(device);
  chained.sizes.push_back(16);
  CHECK(chained.submit(world, stream) == Error::kSuccess);
  CHECK(has(world.violation(), "depend"));
  Batch same_source(host.address(), device, 4);
  same_source.sources[3] = same_source.sources[0];
  CHECK(same_source.submit(world, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: access order 'during the call' reads the source before the call returns") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(64, 0);
  Pinned host(64, 1);
  const Stream stream = world.stream();
  Batch batch(device, host.address(), 4);
  batch.attributes[0].source_access_order = SourceAccessOrder::kDuringApiCall;
  REQUIRE(batch.submit(world, stream) == Error::kSuccess);
  std::fill(host.data(), host.data() + 64, static_cast<unsigned char>(9));
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(device, 64) == bytes_of(64, 1));
}

TEST_CASE("sim-cuda: a rectangle copies its rows and nothing between them") {
  const World world("hold=1");
  const DevicePtr device = world.allocate(1024, 0);
  Pinned host(1024);
  for (std::size_t index = 0; index < host.size(); ++index) host[index] = static_cast<unsigned char>(index % 251);
  const Stream stream = world.stream();
  Copy2D copy;
  copy.source_type = MemoryType::kHost;
  copy.source_host = host.data();
  copy.source_x_bytes = 3;
  copy.source_y = 1;
  copy.source_pitch = 64;
  copy.target_type = MemoryType::kDevice;
  copy.target_device = device;
  copy.target_pitch = 100;
  copy.width_bytes = 40;
  copy.height = 5;
  REQUIRE(world.cuda.memcpy_2d_async(&copy, stream) == Error::kSuccess);
  CHECK(world.sim.step(stream, 1) == 1);
  std::vector<unsigned char> expected(1024, 0);
  for (std::size_t row = 0; row < 5; ++row) {
    for (std::size_t x = 0; x < 40; ++x) expected[row * 100 + x] = host[(row + 1) * 64 + 3 + x];
  }
  CHECK(world.read(device, 1024) == expected);
  copy.target_pitch = 39;
  CHECK(world.cuda.memcpy_2d_async(&copy, stream) == Error::kInvalidValue);
  copy.target_pitch = 300;
  CHECK(world.cuda.memcpy_2d_async(&copy, stream) == Error::kInvalidValue);
  CHECK(has(world.violation(), "leaves"));
}

TEST_CASE("sim-cuda: a rectangle's pitch is no larger than the device takes") {
  const World world("max_pitch=128");
  int limit = 0;
  CHECK(world.cuda.device_get_attribute(&limit, kvtier::cuda::DeviceAttribute::kMaxPitch, 0) == Error::kSuccess);
  CHECK(limit == 128);
  Pinned host(1024);
  Copy2D copy;
  copy.source_type = MemoryType::kHost;
  copy.source_host = host.data();
  copy.source_pitch = 129;
  copy.target_type = MemoryType::kDevice;
  copy.target_device = world.allocate(1024);
  copy.target_pitch = 128;
  copy.width_bytes = 40;
  copy.height = 5;
  const Stream stream = world.stream();
  CHECK(world.cuda.memcpy_2d_async(&copy, stream) == Error::kInvalidValue);
  copy.source_pitch = 128;
  CHECK(world.cuda.memcpy_2d_async(&copy, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: device memory is copied between devices, also without peer access") {
  const World world("hold=1");
  const auto second = world.retain(1);
  const DevicePtr source = world.allocate(256, 1);
  const Stream stream = world.stream();
  REQUIRE(world.cuda.ctx_set_current(second) == Error::kSuccess);
  const DevicePtr target = world.allocate(256, 0);
  CHECK(world.cuda.memcpy_peer_async(target, second, source, world.context, 256, stream) == Error::kSuccess);
  CHECK(world.sim.step(stream, 1) == 1);
  CHECK(world.read(target, 256) == bytes_of(256, 1));
  CHECK(world.cuda.memcpy_peer_async(target, world.context, source, second, 256, stream) == Error::kInvalidValue);
  CHECK(world.cuda.memcpy_peer_async(target, nullptr, source, second, 256, stream) == Error::kInvalidContext);
}

TEST_CASE("sim-cuda: peer access is enabled once, between devices that have it") {
  const World world;
  const auto second = world.retain(1);
  int can = 0;
  CHECK(world.cuda.device_can_access_peer(&can, 0, 1) == Error::kSuccess);
  CHECK(can == 1);
  CHECK(world.cuda.ctx_enable_peer_access(second, 0) == Error::kSuccess);
  CHECK(world.cuda.ctx_enable_peer_access(second, 0) == Error::kPeerAccessAlreadyEnabled);
  CHECK(world.cuda.ctx_enable_peer_access(world.context, 0) == Error::kInvalidContext);
  world.sim.set("peers=0");
  CHECK(world.cuda.device_can_access_peer(&can, 0, 1) == Error::kSuccess);
  CHECK(can == 0);
}

TEST_CASE("sim-cuda: a copy onto a part of itself is a violation") {
  const World world;
  const DevicePtr device = world.allocate(256, 1);
  const Stream stream = world.stream();
  CHECK(world.cuda.memcpy_dtod_async(device, device + 64, 128, stream) == Error::kSuccess);
  CHECK(has(world.violation(), "overlap"));
  CHECK(world.cuda.memcpy_dtod_async(device, device + 128, 128, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
}

TEST_CASE("sim-cuda: a large copy moves every byte once") {
  const World world;
  constexpr std::size_t kBytes = (5U << 20U) + 13;
  const DevicePtr device = world.allocate(kBytes);
  Pinned host(kBytes);
  for (std::size_t index = 0; index < kBytes; ++index) host[index] = static_cast<unsigned char>(index * 31 % 253);
  const Stream stream = world.stream();
  REQUIRE(world.cuda.memcpy_htod_async(device, host.data(), kBytes, stream) == Error::kSuccess);
  CHECK(world.cuda.stream_synchronize(stream) == Error::kSuccess);
  CHECK(world.read(device, kBytes) == std::vector<unsigned char>(host.data(), host.data() + kBytes));
}
