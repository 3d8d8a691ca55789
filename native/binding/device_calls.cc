// Calls about GPUs: their memory as slots, fences, events of transfers, and what other addons hand over.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "binding/calls.h"
#include "binding/results.h"
#include "include/kvtier.h"
#include "storage/device/device_storage.h"
#include "transfer/device/fence.h"
#include "transfer/device/ready_events.h"

namespace kvtier {
namespace {

Result<std::vector<std::shared_ptr<const CudaContext>>> retain(const std::string& library,
                                                               std::span<const std::uint32_t> ordinals) {
  const CudaDriver& driver = CudaDriver::get(library);
  std::vector<std::shared_ptr<const CudaContext>> contexts;
  for (const std::uint32_t ordinal : ordinals) {
    auto context = CudaContext::retain(driver, static_cast<int>(ordinal));
    if (!context.is_ok()) return context.status();
    contexts.push_back(std::move(context).value());
  }
  return contexts;
}

std::vector<std::uint32_t> read_ordinals(const Napi::Value& value, const char* name, std::size_t least) {
  const std::span<std::uint32_t> words = read_words(value, name);
  if (words.size() < least || words.size() > kMaxBlockFragments) {
    fail(Code::kInvalidValue, std::string(name) + " must have at least " + std::to_string(least) + " and at most " +
                                  std::to_string(kMaxBlockFragments) + " elements, got " +
                                  std::to_string(words.size()));
  }
  for (const std::uint32_t ordinal : words) {
    if (ordinal >= kMostDevices) fail(Code::kInvalidValue, std::string(name) + " names GPU " + std::to_string(ordinal));
  }
  return {words.begin(), words.end()};
}

// Whole byte counts or offsets.
std::vector<std::uint64_t> read_sizes(const Napi::Value& value, const char* name, std::size_t length) {
  std::vector<std::uint64_t> sizes;
  for (const double number : read_doubles(value, name, length, "one a region")) {
    if (!(number >= 0 && number <= 9007199254740992.0 && number == std::floor(number))) {
      fail(Code::kInvalidValue, std::string(name) + " must be whole numbers of bytes");
    }
    sizes.push_back(static_cast<std::uint64_t>(number));
  }
  return sizes;
}

TaskOutcome adopt_storage(const std::shared_ptr<EngineClient>& client, Result<std::unique_ptr<DeviceStorage>> storage) {
  if (!storage.is_ok()) return outcome_of(storage.status());
  auto shared = client->adopt(std::move(storage).value());
  if (!shared.is_ok()) return outcome_of(shared.status());
  TaskOutcome outcome;
  outcome.payload = std::make_unique<OpenedStorage>(client, std::move(shared).value());
  return outcome;
}

const DeviceStorage& device_storage(const Napi::Value& value, const char* name) {
  const SharedStorage& storage = *read_storage(value, name).storage;
  if (!storage.info().on_device) {
    fail(Code::kInvalidValue,
         std::string(name) + " must be a storage on a device; it is of kind " + storage.info().kind);
  }
  return static_cast<const DeviceStorage&>(storage.storage());
}

DeviceLink& link_of(AddonData& data, std::uint32_t ordinal, std::shared_ptr<DeviceLink>& keep) {
  std::weak_ptr<DeviceLink>& known = data.links[ordinal];
  keep = known.lock();
  if (keep == nullptr) {
    const std::uint32_t ordinals[] = {ordinal};
    const auto contexts = take_value(retain(cuda_library_from_environment(), ordinals));
    keep = take_value(DeviceLink::get(contexts.front()));
    known = keep;
  }
  return *keep;
}

// [to_device][size][count], as CopyChoices has them.
constexpr std::size_t kChoiceCount = std::size_t{2} * kCopySizeBuckets * kCopyCountBuckets;

struct FiguresResult final : ScriptPayload {
  explicit FiguresResult(const CopyFigures& figures) : figures(figures), choices(choose(figures)) {}
  [[nodiscard]] Napi::Value to_script(AddonData& data, Napi::Env env) override;

  CopyFigures figures;
  CopyChoices choices;
};

template <typename Visit>
void each_choice(Visit visit) {
  std::size_t index = 0;
  for (std::uint32_t to_device = 0; to_device < 2; ++to_device) {
    for (std::uint32_t size = 0; size < kCopySizeBuckets; ++size) {
      for (std::uint32_t count = 0; count < kCopyCountBuckets; ++count) visit(index++, to_device, size, count);
    }
  }
}

Napi::Float64Array doubles(Napi::Env env, const std::vector<double>& values) {
  Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

// One region of a storage, as others see it.
struct Region {
  const CudaDevice* device = nullptr;
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

std::vector<Region> regions_of(const DeviceStorage& storage) {
  std::vector<Region> regions;
  for (const DevicePart& part : storage.device_parts()) {
    for (std::size_t i = 0; i < part.regions.size(); ++i) {
      regions.push_back({&part.context->device(), part.regions[i], part.layout->region_bytes()[i]});
    }
  }
  return regions;
}

// Regions of owned memory lie in one allocation.
IpcRange share_region(const DeviceStorage& storage, const Region& region) {
  for (const DeviceMemory& memory : storage.memory()) {
    if (region.address < memory.address() || region.address - memory.address() >= memory.size_bytes()) continue;
    IpcRange range = take_value(memory.share());
    range.offset += region.address - memory.address();
    range.size_bytes = region.bytes;
    return range;
  }
  fail(Code::kInternal, "a region lies in no memory of its storage");
}

}  // namespace

Napi::Value start_open_device(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const LayoutKind kind = read_layout_kind(info[2], "kind");
  const GroupShape shape = read_shape(info[3], "shape");
  const std::uint32_t slot_count = read_slot_count(info[4]);
  std::vector<std::uint32_t> ordinals = read_ordinals(info[1], "ordinals", 1);
  client_of(data);
  start_task(data, ticket, Lane::kLong, {},
             [client = data.client, library = cuda_library_from_environment(), ordinals = std::move(ordinals), kind,
              shape, slot_count] {
               const auto contexts = retain(library, ordinals);
               if (!contexts.is_ok()) return outcome_of(contexts.status());
               return adopt_storage(client, DeviceStorage::allocate(contexts.value(), kind, shape, slot_count));
             });
  return info.Env().Undefined();
}

Napi::Value start_borrow_device(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const LayoutKind kind = read_layout_kind(info[1], "kind");
  const GroupShape shape = read_shape(info[2], "shape");
  const std::uint32_t slot_count = read_slot_count(info[3]);
  const Napi::Object ranges = read_object(info[4], "ranges");
  const Napi::Value given_ordinals = read_property(ranges, "ordinals");
  const Napi::Value given_addresses = read_property(ranges, "addresses");
  const Napi::Value given_bytes = read_property(ranges, "bytes");
  std::vector<std::uint32_t> ordinals = read_ordinals(given_ordinals, "ranges.ordinals", 1);
  const std::span<std::uint64_t> words =
      read_quads(given_addresses, "ranges.addresses", ordinals.size(), "one a region");
  std::vector<std::uint64_t> addresses(words.begin(), words.end());
  std::vector<std::uint64_t> sizes = read_sizes(given_bytes, "ranges.bytes", ordinals.size());
  client_of(data);
  start_task(data, ticket, Lane::kLong, {},
             [client = data.client, library = cuda_library_from_environment(), ordinals = std::move(ordinals),
              addresses = std::move(addresses), sizes = std::move(sizes), kind, shape, slot_count] {
               const auto contexts = retain(library, ordinals);
               if (!contexts.is_ok()) return outcome_of(contexts.status());
               std::vector<DeviceMemory> regions;
               for (std::size_t i = 0; i < ordinals.size(); ++i) {
                 auto region = DeviceMemory::borrow(contexts.value()[i], addresses[i], sizes[i]);
                 if (!region.is_ok()) return outcome_of(region.status());
                 regions.push_back(std::move(region).value());
               }
               return adopt_storage(client, DeviceStorage::borrow(kind, shape, slot_count, std::move(regions)));
             });
  return info.Env().Undefined();
}

Napi::Value start_import_device(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const LayoutKind kind = read_layout_kind(info[1], "kind");
  const GroupShape shape = read_shape(info[2], "shape");
  const std::uint32_t slot_count = read_slot_count(info[3]);
  if (!info[5].IsArray()) fail(Code::kInvalidType, "handles must be an array, got " + describe_value(info[5]));
  const Napi::Array array = info[5].As<Napi::Array>();
  std::vector<Napi::Value> given;
  for (std::uint32_t i = 0; i < std::min(array.Length(), static_cast<std::uint32_t>(kMaxBlockFragments)); ++i) {
    given.push_back(read_element(array, i));
  }
  std::vector<std::uint32_t> ordinals = read_ordinals(info[4], "ordinals", 1);
  if (given.size() != ordinals.size()) {
    fail(Code::kInvalidValue, "handles must have " + std::to_string(ordinals.size()) + " elements, one a region, got " +
                                  std::to_string(array.Length()));
  }
  const std::vector<std::uint64_t> offsets = read_sizes(info[6], "offsets", ordinals.size());
  const std::vector<std::uint64_t> sizes = read_sizes(info[7], "bytes", ordinals.size());
  const std::uint32_t owner = info[8].IsUndefined() ? 0 : read_u32(info[8], "owner", 0, 0x7fffffff);
  std::vector<IpcRange> ranges;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const std::string name = "handles[" + std::to_string(i) + "]";
    const std::span<std::uint8_t> bytes = read_bytes(given[i], name.c_str());
    IpcRange range;
    range.handle = take_value(read_ipc_handle(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
    range.offset = offsets[i];
    range.size_bytes = sizes[i];
    range.owner = static_cast<decltype(range.owner)>(owner);
    ranges.push_back(range);
  }
  client_of(data);
  start_task(data, ticket, Lane::kLong, {},
             [client = data.client, library = cuda_library_from_environment(), ordinals = std::move(ordinals),
              ranges = std::move(ranges), kind, shape, slot_count] {
               const auto contexts = retain(library, ordinals);
               if (!contexts.is_ok()) return outcome_of(contexts.status());
               std::vector<DeviceMemory> regions;
               for (std::size_t i = 0; i < ranges.size(); ++i) {
                 auto region = DeviceMemory::open(contexts.value()[i], ranges[i]);
                 if (!region.is_ok()) return outcome_of(region.status());
                 regions.push_back(std::move(region).value());
               }
               return adopt_storage(client, DeviceStorage::borrow(kind, shape, slot_count, std::move(regions)));
             });
  return info.Env().Undefined();
}

Napi::Value device_ranges(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const std::vector<Region> regions = regions_of(device_storage(info[0], "storage"));
  const Napi::Env env = info.Env();
  Napi::Uint32Array ordinals = Napi::Uint32Array::New(env, regions.size());
  Napi::BigUint64Array addresses = Napi::BigUint64Array::New(env, regions.size());
  std::vector<double> bytes;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    ordinals.Data()[i] = static_cast<std::uint32_t>(regions[i].device->ordinal);
    addresses.Data()[i] = regions[i].address;
    bytes.push_back(static_cast<double>(regions[i].bytes));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("ordinals", ordinals);
  object.Set("addresses", addresses);
  object.Set("bytes", doubles(env, bytes));
  return object;
}

Napi::Value share_device(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const DeviceStorage& storage = device_storage(info[0], "storage");
  const std::vector<Region> regions = regions_of(storage);
  const Napi::Env env = info.Env();
  constexpr std::size_t kHandleBytes = sizeof(cuda::IpcMemHandle);
  Napi::Array uuids = Napi::Array::New(env, regions.size());
  Napi::Uint8Array handles = Napi::Uint8Array::New(env, regions.size() * kHandleBytes);
  std::vector<double> offsets;
  std::vector<double> bytes;
  std::int64_t owner = 0;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const IpcRange range = share_region(storage, regions[i]);
    uuids.Set(static_cast<std::uint32_t>(i), regions[i].device->uuid);
    std::memcpy(handles.Data() + i * kHandleBytes, range.handle.bytes.data(), kHandleBytes);
    owner = range.owner;
    offsets.push_back(static_cast<double>(range.offset));
    bytes.push_back(static_cast<double>(range.size_bytes));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("owner", static_cast<double>(owner));
  object.Set("uuids", uuids);
  object.Set("handles", handles);
  object.Set("offsets", doubles(env, offsets));
  object.Set("bytes", doubles(env, bytes));
  return object;
}

Napi::Value read_external(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const kvtier_pointer pointer = read_pointer(info[0], "value");
  Napi::Object object = Napi::Object::New(info.Env());
  const char* kind = pointer.kind == KVTIER_MEMORY ? "memory" : pointer.kind == KVTIER_STREAM ? "stream" : "event";
  object.Set("kind", kind);
  object.Set("address", Napi::BigInt::New(info.Env(), pointer.address));
  object.Set("bytes", static_cast<double>(pointer.bytes));
  object.Set("ordinal", pointer.ordinal);
  return object;
}

Napi::Value make_fence(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ordinal = read_u32(info[0], "ordinal", 0, kMostDevices - 1);
  const std::string kind = read_string(info[1], "kind");
  std::shared_ptr<DeviceLink> keep;
  auto box = std::make_unique<FenceBox>();
  box->owner = &data;
  if (kind == "ipc") {
    cuda::IpcEventHandle handle{};
    const std::span<std::uint8_t> bytes = read_bytes(info[2], "source", handle.bytes.size(), "of an event's handle");
    std::memcpy(handle.bytes.data(), bytes.data(), bytes.size());
    box->fence = take_value(Fence::after_ipc(link_of(data, ordinal, keep), handle));
  } else if (kind == "event" || kind == "stream") {
    const std::uint64_t address = read_address(info[2], "source");
    DeviceLink& link = link_of(data, ordinal, keep);
    box->fence = take_value(kind == "event" ? Fence::after_event(link, reinterpret_cast<cuda::Event>(address))
                                            : Fence::after_stream(link, reinterpret_cast<cuda::Stream>(address)));
  } else {
    fail(Code::kInvalidValue, "kind must be 'event', 'stream' or 'ipc', got '" + kind + "'");
  }
  return wrap(info.Env(), std::move(box));
}

Napi::Value make_ready(AddonData& data, const Napi::CallbackInfo& info) {
  static_cast<void>(device_storage(info[0], "storage"));
  const SharedStorage& storage = *read_storage(info[0], "storage").storage;
  auto box = std::make_unique<ReadyBox>();
  box->owner = &data;
  box->ready = take_value(ReadyEvents::make(storage.links(), storage.info().shape.layers));
  return wrap(info.Env(), std::move(box));
}

Napi::Value ready_events(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  const ReadyEvents& ready = *read_ready(info[0], "ready").ready;
  Napi::BigUint64Array addresses = Napi::BigUint64Array::New(info.Env(), ready.events().size());
  for (std::size_t i = 0; i < ready.events().size(); ++i) {
    addresses.Data()[i] = reinterpret_cast<std::uint64_t>(ready.events()[i].handle());
  }
  return addresses;
}

Napi::Value FiguresResult::to_script(AddonData& /*data*/, Napi::Env env) {
  std::vector<std::uint32_t> cells;
  std::vector<double> rows;
  Napi::Uint8Array chosen = Napi::Uint8Array::New(env, kChoiceCount);
  each_choice([&](std::size_t index, std::uint32_t to_device, std::uint32_t size, std::uint32_t count) {
    chosen.Data()[index] = static_cast<std::uint8_t>(choices.table[to_device][size][count]);
    for (std::uint32_t strategy = 0; strategy < kCopyStrategyCount; ++strategy) {
      const CopyFigure& figure = figures.table[to_device][size][count][strategy];
      if (!figure.is_measured()) continue;
      cells.insert(cells.end(), {strategy, to_device, 1024u << size, 1u << (2 * count)});
      rows.insert(rows.end(), {figure.gigabytes_per_second, figure.cpu_us});
    }
  });
  Napi::Object object = Napi::Object::New(env);
  const std::size_t cell_count = cells.size();
  object.Set("cells", Napi::Uint32Array::New(env, cell_count, adopt_vector(env, std::move(cells)), 0));
  object.Set("figures", doubles(env, rows));
  object.Set("choices", chosen);
  return object;
}

Napi::Value start_measure_device(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::uint32_t ordinal = read_u32(info[1], "ordinal", 0, kMostDevices - 1);
  client_of(data);
  start_task(data, ticket, Lane::kLong, {}, [library = cuda_library_from_environment(), ordinal] {
    const std::uint32_t ordinals[] = {ordinal};
    const auto contexts = retain(library, ordinals);
    if (!contexts.is_ok()) return outcome_of(contexts.status());
    const auto link = DeviceLink::get(contexts.value().front());
    if (!link.is_ok()) return outcome_of(link.status());
    const auto figures = link.value()->measure();
    if (!figures.is_ok()) return outcome_of(figures.status());
    TaskOutcome outcome;
    outcome.payload = std::make_unique<FiguresResult>(figures.value());
    return outcome;
  });
  return info.Env().Undefined();
}

namespace {

// Empty: the defaults.
CopyChoices read_choices(const Napi::Value& value) {
  CopyChoices choices = CopyChoices::defaults();
  if (read_bytes(value, "choices").empty()) return choices;
  const std::span<std::uint8_t> words = read_bytes(value, "choices", kChoiceCount, "a direction, size and number");
  each_choice([&](std::size_t index, std::uint32_t to_device, std::uint32_t size, std::uint32_t count) {
    if (words[index] >= kCopyStrategyCount) {
      fail(Code::kInvalidValue, "choices names strategy " + std::to_string(words[index]) + "; there are " +
                                    std::to_string(kCopyStrategyCount));
    }
    choices.table[to_device][size][count] = static_cast<CopyStrategy>(words[index]);
  });
  return choices;
}

}  // namespace

Napi::Value set_device_choices(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ordinal = read_u32(info[0], "ordinal", 0, kMostDevices - 1);
  const std::uint32_t forbidden = read_u32(info[2], "forbidden", 0, (1u << kCopyStrategyCount) - 1);
  const CopyChoices choices = read_choices(info[1]);
  std::shared_ptr<DeviceLink> keep;
  link_of(data, ordinal, keep).copier().set_choices(choices, forbidden);
  return info.Env().Undefined();
}

}  // namespace kvtier
