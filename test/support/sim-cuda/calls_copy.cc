// The driver's calls that copy or fill one range or one rectangle. Any thread.
#include <utility>
#include <vector>

#include "support/sim-cuda/submit_copy.h"

namespace kvtier::sim::calls {

using cuda::DevicePtr;
using cuda::Error;
using cuda::MemoryType;
using cuda::Stream;

namespace {

Error copy(Function function, const CopyRequest& request, Stream stream) {
  Call call(function, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (request.bytes == 0) return Error::kSuccess;
  std::vector<Segment> segments(1);
  const Error error = place_segment(call, request, *found->context, segments.front());
  return error == Error::kSuccess ? submit(call, found, std::move(segments)) : error;
}

// One side of a rectangle.
struct Plane {
  std::uint64_t address = 0;  // of its first byte
  std::size_t pitch = 0;
  Side side = Side::kEither;
};

Error plane_of(MemoryType type, const void* host, DevicePtr device, std::size_t x_bytes, std::size_t y,
               std::size_t pitch, std::size_t width_bytes, std::size_t pitch_limit, Plane& plane) {
  switch (type) {
    case MemoryType::kHost:
      plane.address = reinterpret_cast<std::uint64_t>(host);
      plane.side = Side::kHost;
      break;
    case MemoryType::kDevice:
      plane.address = device;
      plane.side = Side::kDevice;
      break;
    case MemoryType::kUnified:
      plane.address = device;
      plane.side = Side::kEither;
      break;
    case MemoryType::kArray:
      return Error::kNotSupported;
  }
  plane.pitch = pitch == 0 ? width_bytes : pitch;
  if (plane.address == 0 || plane.pitch < x_bytes + width_bytes || plane.pitch > pitch_limit) {
    return Error::kInvalidValue;
  }
  plane.address += y * plane.pitch + x_bytes;
  return Error::kSuccess;
}

}  // namespace

Error memcpy_async(DevicePtr target, DevicePtr source, std::size_t bytes, Stream stream) {
  return copy(Function::memcpy_async, CopyRequest{.target = target, .source = source, .bytes = bytes}, stream);
}

Error memcpy_htod_async(DevicePtr target, const void* source, std::size_t bytes, Stream stream) {
  return copy(Function::memcpy_htod_async,
              CopyRequest{.target = target,
                          .source = reinterpret_cast<std::uint64_t>(source),
                          .bytes = bytes,
                          .target_side = Side::kDevice,
                          .source_side = Side::kHost},
              stream);
}

Error memcpy_dtoh_async(void* target, DevicePtr source, std::size_t bytes, Stream stream) {
  return copy(Function::memcpy_dtoh_async,
              CopyRequest{.target = reinterpret_cast<std::uint64_t>(target),
                          .source = source,
                          .bytes = bytes,
                          .target_side = Side::kHost,
                          .source_side = Side::kDevice},
              stream);
}

Error memcpy_dtod_async(DevicePtr target, DevicePtr source, std::size_t bytes, Stream stream) {
  return copy(Function::memcpy_dtod_async,
              CopyRequest{.target = target,
                          .source = source,
                          .bytes = bytes,
                          .target_side = Side::kDevice,
                          .source_side = Side::kDevice},
              stream);
}

Error memcpy_peer_async(DevicePtr target, cuda::Context target_context, DevicePtr source, cuda::Context source_context,
                        std::size_t bytes, Stream stream) {
  Call call(Function::memcpy_peer_async, Needs::kContext);
  if (!call) return call.error();
  const std::shared_ptr<ContextState> into = call.state().contexts.find(target_context);
  const std::shared_ptr<ContextState> from = call.state().contexts.find(source_context);
  if (!into || !from) return Error::kInvalidContext;
  if (into->error != Error::kSuccess) return into->error;
  if (from->error != Error::kSuccess) return from->error;
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (bytes == 0) return Error::kSuccess;
  std::vector<Segment> segments(1);
  const CopyRequest request{
      .target = target, .source = source, .bytes = bytes, .target_side = Side::kDevice, .source_side = Side::kDevice};
  if (const Error error = place_segment(call, request, *found->context, segments.front()); error != Error::kSuccess) {
    return error;
  }
  // Memory of another device than the context that was named for it.
  const Segment& segment = segments.front();
  const bool fits = (!segment.target.is_device() || segment.target.region.get()->context == into) &&
                    (!segment.source.is_device() || segment.source.region.get()->context == from);
  return fits ? submit(call, found, std::move(segments)) : Error::kInvalidValue;
}

Error memcpy_2d_async(const cuda::Copy2D* copy, Stream stream) {
  Call call(Function::memcpy_2d_async, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  if (copy == nullptr) return Error::kInvalidValue;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (copy->width_bytes == 0 || copy->height == 0) return Error::kSuccess;
  const std::size_t pitch_limit = call.state().settings.max_pitch;
  Plane target;
  Plane source;
  if (const Error error = plane_of(copy->target_type, copy->target_host, copy->target_device, copy->target_x_bytes,
                                   copy->target_y, copy->target_pitch, copy->width_bytes, pitch_limit, target);
      error != Error::kSuccess) {
    return error;
  }
  if (const Error error = plane_of(copy->source_type, copy->source_host, copy->source_device, copy->source_x_bytes,
                                   copy->source_y, copy->source_pitch, copy->width_bytes, pitch_limit, source);
      error != Error::kSuccess) {
    return error;
  }
  std::vector<Segment> rows(copy->height);
  for (std::size_t row = 0; row < copy->height; ++row) {
    const CopyRequest request{.target = target.address + row * target.pitch,
                              .source = source.address + row * source.pitch,
                              .bytes = copy->width_bytes,
                              .target_side = target.side,
                              .source_side = source.side};
    if (const Error error = place_segment(call, request, *found->context, rows[row]); error != Error::kSuccess) {
      return error;
    }
  }
  return submit(call, found, std::move(rows));
}

Error memset_d8_async(DevicePtr target, unsigned char value, std::size_t count, Stream stream) {
  Call call(Function::memset_d8_async, Needs::kContext);
  if (!call) return call.error();
  std::shared_ptr<StreamState> found;
  if (const Error error = call.find(stream, found); error != Error::kSuccess) return error;
  if (count == 0) return Error::kSuccess;
  Place place;
  const Error error = call.state().memory.place(call.name(), target, count, Side::kDevice, *found->context, place);
  if (error != Error::kSuccess) return error;
  call.scheduler().enqueue(*found, std::make_unique<MemsetOperation>(std::move(place), value, count));
  return Error::kSuccess;
}

}  // namespace kvtier::sim::calls
