// Calls that open, borrow, close and look after storages and stores.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "binding/calls.h"
#include "binding/results.h"
#include "platform/cufile/verify_direct.h"
#include "storage/memory/memory_storage.h"
#include "storage/slab/slab_storage.h"
#include "transfer/device/measure_direct.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kMaxGroups = 1024;

// Where a call about a storage waits: for nothing but its own disk.
Lane lane_of(const SharedStorage& storage) noexcept {
  return storage.info().persistent ? Lane::kDisk : Lane::kShort;
}

Result<std::unique_ptr<MemoryStorage>> open_memory(const std::string& library, std::optional<std::uint32_t> pin_for,
                                                   LayoutKind kind, const GroupShape& shape, std::uint32_t slot_count) {
  if (!pin_for) return MemoryStorage::allocate(kind, shape, slot_count, HostBufferOptions{});
  auto context = CudaContext::retain(CudaDriver::get(library), static_cast<int>(*pin_for));
  if (!context.is_ok()) return context.status();
  return MemoryStorage::allocate_pinned(kind, shape, slot_count, std::move(context).value());
}

TaskOutcome with_payload(std::unique_ptr<Payload> payload) {
  return {Code::kOk, {}, std::move(payload)};
}

// A Uint8Array whose memory stays where it is: attached, and not of a buffer that can be resized.
std::span<std::byte> read_region(const AddonData& data, const Napi::Value& value, const std::string& name) {
  static_cast<void>(read_bytes(value, name.c_str()));
  if (data.resizable.is_resizable(value)) {
    fail(Code::kInvalidType, name + " must not be of a buffer that can be resized");
  }
  const std::span<std::uint8_t> bytes = read_bytes(value, name.c_str());
  return {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()};
}

// One look at each buffer before a transfer is enough, however many regions lie in it.
void reference_buffers(std::vector<BorrowedRegion>& regions) {
  std::unordered_set<const void*> seen;
  for (BorrowedRegion& region : regions) {
    const Napi::Value array = region.array.Value();
    napi_value buffer = nullptr;
    void* data = nullptr;
    std::size_t length = 0;
    if (napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, nullptr, &buffer, nullptr) != napi_ok) continue;
    // A shared buffer is no ArrayBuffer, and is never detached.
    if (napi_get_arraybuffer_info(array.Env(), buffer, &data, &length) != napi_ok || !seen.insert(data).second)
      continue;
    region.buffer = Napi::Persistent(Napi::ArrayBuffer(array.Env(), buffer));
  }
}

// What a slab needs to move blocks directly to and from a device's memory.
struct DirectWish {
  std::shared_ptr<SharedStorage> device;  // null: not asked for
  bool always = false;                    // wherever it works; else where it is also measured to be the faster way
  std::string cuda_library;
  std::string cufile_library;
};

// Tries it, in the directory where it would be used.
Status try_direct(const CufileDriver& cufile, const DirectWish& wish, const StoreDirectory& directory) {
  const std::shared_ptr<const CudaContext>& context = wish.device->links()[0]->context();
  if (Status status = cufile.check_device(context->device()); !status.is_ok()) return status;
  if (Status status = wish.device->check_direct(); !status.is_ok()) return status;
  return verify_direct(cufile, context, directory.fd(), directory.path());
}

// Which loads are to go directly, where that works.
DirectReport choose_loads(const CufileDriver& cufile, const DirectWish& wish, const StoreDirectory& directory,
                          std::uint64_t slot_stride) {
  if (wish.always) return {.choice = kAlwaysDirect, .reason = {}, .figures = {}};
  DeviceLink& link = *wish.device->links()[0];
  const auto figures = measure_direct(cufile, link, directory.fd(), directory.path(), slot_stride);
  if (figures.is_ok()) {
    return {
        .choice = choose_direct(figures.value()), .reason = why_staged(figures.value()), .figures = figures.value()};
  }
  link.note(figures.status());
  return {.choice = kNeverDirect,
          .reason = "direct transfers work, but how fast they are could not be measured: " + figures.status().message(),
          .figures = {}};
}

// The slab works as well where direct transfers cannot be had. Where no load is to go that way nothing is registered,
// which would keep memory of the device mapped for nothing.
DirectReport open_direct(const DirectWish& wish, const StoreDirectory& directory, SlabStorage& slab) {
  const CufileDriver& cufile = CufileDriver::get(wish.cuda_library, wish.cufile_library);
  DirectReport report;
  Status status = try_direct(cufile, wish, directory);
  if (status.is_ok()) report = choose_loads(cufile, wish, directory, slab.info().slot_stride);
  // The GPU's memory last: it stays registered, and nothing that may fail comes after it.
  if (report.choice != kNeverDirect) {
    status = slab.open_direct(cufile);
    if (status.is_ok()) status = wish.device->enable_direct(cufile);
  }
  if (status.is_ok()) return report;
  report.choice = kNeverDirect;
  report.reason = status.message();
  return report;
}

// Opens a slab in a directory that is kept open with it, reads its table and shares it with the engine.
TaskOutcome open_slab(const std::shared_ptr<EngineClient>& client, Result<std::unique_ptr<SlabStorage>> opened,
                      const StoreDirectory& directory, std::shared_ptr<const void> keeps, bool keep_orphans,
                      SlabToken slab, const DirectWish& wish) {
  if (!opened.is_ok()) return outcome_of(opened.status());
  std::unique_ptr<SlabStorage> storage = std::move(opened).value();
  std::optional<DirectReport> to_device;
  if (wish.device) to_device = open_direct(wish, directory, *storage);
  const bool direct = storage->direct();
  const std::uint32_t named_slots = storage->named_slots();
  Result<SlabContents> contents = storage->recover(keep_orphans);
  if (!contents.is_ok()) return outcome_of(contents.status());
  Result<std::shared_ptr<SharedStorage>> shared = client->adopt(std::move(storage), std::move(keeps));
  if (!shared.is_ok()) return outcome_of(shared.status());
  if (to_device) shared.value()->choose_direct(wish.device->links()[0], to_device->choice);
  auto result = std::make_unique<OpenedSlab>(client, std::move(shared).value());
  result->contents = std::move(contents).value();
  result->direct = direct;
  result->to_device = std::move(to_device);
  result->named_slots = named_slots;
  result->slab = std::move(slab);
  return with_payload(std::move(result));
}

std::vector<std::uint32_t> read_slots(const Napi::Value& value, const SharedStorage& storage) {
  const std::span<std::uint32_t> words = read_words(value, "slots");
  std::vector<std::uint32_t> slots(words.begin(), words.end());
  const std::uint32_t slot_count = storage.info().slot_count;
  const auto outside = std::find_if(slots.begin(), slots.end(), [&](std::uint32_t slot) { return slot >= slot_count; });
  if (outside != slots.end()) {
    fail(Code::kSlotOutOfRange, "slot " + std::to_string(*outside) + " was asked for; the storage has " +
                                    std::to_string(slot_count) + " slots");
  }
  return slots;
}

}  // namespace

Napi::Value start_open_memory(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const LayoutKind kind = read_layout_kind(info[1], "kind");
  const GroupShape shape = read_shape(info[2], "shape");
  const std::uint32_t slot_count = read_slot_count(info[3]);
  std::optional<std::uint32_t> pin_for;
  if (!info[4].IsUndefined()) pin_for = read_u32(info[4], "pinFor", 0, kMostDevices - 1);
  client_of(data);
  start_task(data, ticket, Lane::kLong, {},
             [client = data.client, library = cuda_library_from_environment(), pin_for, kind, shape, slot_count] {
               auto storage = open_memory(library, pin_for, kind, shape, slot_count);
               if (!storage.is_ok()) return outcome_of(storage.status());
               auto shared = client->adopt(std::move(storage).value());
               if (!shared.is_ok()) return outcome_of(shared.status());
               return with_payload(std::make_unique<OpenedStorage>(client, std::move(shared).value()));
             });
  return info.Env().Undefined();
}

Napi::Value borrow_memory(AddonData& data, const Napi::CallbackInfo& info) {
  const LayoutKind kind = read_layout_kind(info[0], "kind");
  const GroupShape shape = read_shape(info[1], "shape");
  const std::uint32_t slot_count = read_slot_count(info[2]);
  if (!info[3].IsArray()) fail(Code::kInvalidType, "regions must be an array, got " + describe_value(info[3]));
  const Napi::Array array = info[3].As<Napi::Array>();
  if (array.Length() > kMaxBlockFragments) {
    fail(Code::kInvalidValue, "regions must have at most " + std::to_string(kMaxBlockFragments) + " elements, got " +
                                  std::to_string(array.Length()));
  }
  client_of(data);
  std::vector<BorrowedRegion> borrowed;
  const std::uint32_t count = array.Length();
  for (std::uint32_t i = 0; i < count; ++i) {
    const Napi::Value value = read_element(array, i);
    const std::span<std::byte> bytes = read_region(data, value, "regions[" + std::to_string(i) + "]");
    borrowed.push_back({Napi::Persistent(value.As<Napi::Uint8Array>()), bytes.data(), bytes.size(), {}});
  }
  // A getter may have run after a region was read: only now does no JavaScript run any more.
  std::vector<std::span<std::byte>> regions;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::span<std::uint8_t> bytes =
        read_bytes(borrowed[i].array.Value(), "a region", borrowed[i].length, "as it had when the call began");
    borrowed[i].data = bytes.data();
    regions.emplace_back(reinterpret_cast<std::byte*>(bytes.data()), bytes.size());
  }
  reference_buffers(borrowed);
  auto storage = take_value(MemoryStorage::borrow(kind, shape, slot_count, regions));
  OpenedStorage opened(data.client, take_value(client_of(data).adopt(std::move(storage))));
  data.borrowed.emplace(opened.storage->id(), std::move(borrowed));
  return opened.to_script(data, info.Env());
}

Napi::Value start_open_store(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::string root = read_string(info[1], "root");
  Fingerprint fingerprint{};
  const std::span<std::uint8_t> bytes = read_bytes(info[2], "fingerprint", fingerprint.size(), "bytes of SHA-256");
  std::memcpy(fingerprint.data(), bytes.data(), fingerprint.size());
  start_task(data, ticket, Lane::kDisk, {}, [queue = data.queue, root, fingerprint] {
    auto directory = StoreDirectory::open(root, fingerprint);
    if (!directory.is_ok()) return outcome_of(directory.status());
    auto lock = std::make_shared<StoreLock>(std::move(directory).value(), queue);
    return with_payload(std::make_unique<OpenedStore>(std::move(lock)));
  });
  return info.Env().Undefined();
}

Napi::Value start_open_slab(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  SlabOptions options;
  options.group = read_u32(info[2], "group", 0, kMaxGroups - 1);
  options.shape = read_shape(info[3], "shape");
  options.slot_count = read_slot_count(info[4]);
  options.direct = read_bool(info[5], "direct");
  const bool keep_orphans = read_bool(info[6], "keepOrphans");
  const StoreBox& store = read_store(info[1], "store");
  DirectWish wish;
  if (!info[7].IsUndefined() && !info[7].IsNull()) {
    wish.device = read_storage(info[7], "directFor").storage;
    if (!wish.device->info().on_device) fail(Code::kInvalidValue, "directFor must be a storage on a device");
    wish.always = !info[8].IsUndefined() && read_bool(info[8], "directAlways");
    wish.cuda_library = cuda_library_from_environment();
    wish.cufile_library = cufile_library_from_environment();
  }
  EngineClient& client = client_of(data);
  // Held by hand: a task that may wait for a disk has no other storages.
  if (wish.device) check(client.hold(wish.device));
  try {
    start_task(data, ticket, Lane::kDisk, {},
               [client = data.client, lock = store.lock, slab = store.slabs, options, keep_orphans, wish] {
                 TaskOutcome outcome = open_slab(client, SlabStorage::open(lock->directory(), options),
                                                 lock->directory(), lock, keep_orphans, slab, wish);
                 if (wish.device) client->release(wish.device);
                 return outcome;
               });
  } catch (...) {
    if (wish.device) client.release(wish.device);
    throw;
  }
  return info.Env().Undefined();
}

Napi::Value start_inspect_slab(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::string path = read_string(info[1], "directory");
  const std::uint32_t group = read_u32(info[2], "group", 0, kMaxGroups - 1);
  client_of(data);
  start_task(data, ticket, Lane::kDisk, {}, [client = data.client, path, group] {
    auto opened = StoreDirectory::open_read_only(path);
    if (!opened.is_ok()) return outcome_of(opened.status());
    const std::shared_ptr<StoreDirectory> directory = std::move(opened).value();
    // Whoever looks wants to see every block.
    return open_slab(client, SlabStorage::open_read_only(*directory, group), *directory, directory, true, nullptr, {});
  });
  return info.Env().Undefined();
}

Napi::Value start_close(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  EngineClient& client = client_of(data);
  if (is_storage(info[1])) {
    StorageBox& box = read_storage(info[1], "handle");
    Expected expected(data, ticket);
    // Windows first: they hold the storage, and their memory goes with it.
    close_windows(data, *box.storage);
    check(client.close(box.storage, ticket));
    expected.started();
    box.closed = true;
    box.slab.reset();
    return info.Env().Undefined();
  }
  StoreBox& box = read_store(info[1], "handle");
  if (const auto slabs = box.slabs.use_count() - 1; slabs > 0) {
    fail(Code::kInvalidValue, std::to_string(slabs) + " slabs of the store are open; close them first");
  }
  Expected expected(data, ticket);
  box.lock->report_end(ticket);
  expected.started();
  box.lock.reset();
  return info.Env().Undefined();
}

Napi::Value start_erase(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::shared_ptr<SharedStorage> storage = read_storage(info[1], "storage").storage;
  std::vector<std::uint32_t> slots = read_slots(info[2], *storage);
  start_task(data, ticket, lane_of(*storage), {storage},
             [storage, slots = std::move(slots)] { return outcome_of(storage->storage().erase(slots)); });
  return info.Env().Undefined();
}

Napi::Value start_sync(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::shared_ptr<SharedStorage> storage = read_storage(info[1], "storage").storage;
  start_task(data, ticket, lane_of(*storage), {storage}, [storage] { return outcome_of(storage->storage().sync()); });
  return info.Env().Undefined();
}

}  // namespace kvtier
