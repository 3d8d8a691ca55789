// Calls that start and cancel transfers, and work on slots that runs as one.
#include <cstring>
#include <string>
#include <utility>

#include "binding/calls.h"

namespace kvtier {
namespace {

constexpr std::uint32_t kMostFences = 1024;

TransferPath read_path(const Napi::Value& value) {
  const std::string text = read_string(value, "request.path");
  for (unsigned i = 0; i < kPublicPathCount; ++i) {
    const auto path = static_cast<TransferPath>(i);
    if (text == traits_of(path).name) return path;
  }
  fail(Code::kInvalidValue, "request.path is '" + text + "', which is no transfer path");
}

// The block count of an array of `per_block` elements a block, within what one report can carry.
std::size_t count_blocks(std::size_t length, std::size_t per_block, const char* name, const AddonData& data) {
  if (length % per_block != 0) {
    fail(Code::kInvalidValue, std::string(name) + " must have " + std::to_string(per_block) +
                                  " elements a block, got " + std::to_string(length) + " elements");
  }
  const std::size_t count = length / per_block;
  if (count > data.queue->max_outcomes()) {
    fail(Code::kInvalidValue, std::to_string(count) + " blocks in one call; at most " +
                                  std::to_string(data.queue->max_outcomes()) + " are allowed");
  }
  return count;
}

std::vector<SequenceHash> copy_hashes(const Napi::Value& value, const char* name, std::size_t count) {
  const std::span<std::uint8_t> bytes = read_bytes(value, name, count * kHashBytes, "32 a block");
  std::vector<SequenceHash> hashes(count);
  if (count != 0) std::memcpy(hashes.data(), bytes.data(), bytes.size());
  return hashes;
}

std::vector<BlockRecord> copy_records(const Napi::Value& parents, const Napi::Value& records,
                                      const std::vector<SequenceHash>& hashes) {
  const std::vector<SequenceHash> parent_hashes = copy_hashes(parents, "request.parents", hashes.size());
  const std::span<std::uint32_t> words =
      read_words(records, "request.records", hashes.size() * kRecordWords, "5 a block");
  std::vector<BlockRecord> copies(hashes.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const std::span<std::uint32_t> own = words.subspan(i * kRecordWords, kRecordWords);
    copies[i].hash = hashes[i];
    copies[i].parent = parent_hashes[i];
    copies[i].depth = own[0];
    copies[i].tenant_tag = own[1];
    copies[i].priority = own[2];
    copies[i].expires_at_s = own[3];
    copies[i].last_use_s = own[4];
  }
  return copies;
}

// The elements of an array that may be left out.
std::vector<Napi::Value> read_list(const Napi::Value& value, const char* name) {
  std::vector<Napi::Value> list;
  if (value.IsNull() || value.IsUndefined()) return list;
  if (!value.IsArray()) fail(Code::kInvalidType, std::string(name) + " must be an array, got " + describe_value(value));
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > kMostFences) {
    fail(Code::kInvalidValue, std::string(name) + " must have at most " + std::to_string(kMostFences) + " elements");
  }
  for (std::uint32_t i = 0; i < array.Length(); ++i) list.push_back(read_element(array, i));
  return list;
}

// Borrowed memory must be where it was. Its buffers cannot be resized, so it is as long as it was then.
void check_borrowed(const AddonData& data, const std::shared_ptr<SharedStorage>& storage, const char* name) {
  if (!storage) return;
  if (storage->info().on_device) {
    if (Status status = storage->storage().check_memory(); !status.is_ok()) {
      fail(status.code(), std::string(name) + ": " + status.message());
    }
  }
  const auto found = data.borrowed.find(storage->id());
  if (found == data.borrowed.end()) return;
  for (const BorrowedRegion& region : found->second) {
    if (region.buffer.IsEmpty()) continue;
    bool detached = false;
    const Napi::Value buffer = region.buffer.Value();
    if (napi_is_detached_arraybuffer(buffer.Env(), buffer, &detached) != napi_ok || detached) {
      fail(Code::kDetachedArray, std::string(name) + " borrows an array that was detached since");
    }
  }
}

void submit(AddonData& data, TransferRequest&& request) {
  check_borrowed(data, request.source, "source");
  check_borrowed(data, request.via, "via");
  check_borrowed(data, request.target, "target");
  EngineClient& client = client_of(data);
  Expected expected(data, request.ticket);
  check(client.submit(std::move(request)));
  expected.started();
}

// A call of (ticket, storage, slots, hashes) on the slots of one storage.
Napi::Value submit_slots(AddonData& data, const Napi::CallbackInfo& info, TransferPath path) {
  client_of(data);
  TransferRequest request;
  request.ticket = read_u32(info[0], "ticket");
  request.path = path;
  request.source = read_storage(info[1], "storage").storage;
  request.target = request.source;
  const std::span<std::uint32_t> slots = read_words(info[2], "slots");
  const std::size_t count = count_blocks(slots.size(), 1, "slots", data);
  request.moves.reserve(count);
  for (const std::uint32_t slot : slots) request.moves.push_back({slot, kNoSlot, slot});
  request.hashes = copy_hashes(info[3], "hashes", count);
  submit(data, std::move(request));
  return info.Env().Undefined();
}

}  // namespace

Napi::Value start_transfer(AddonData& data, const Napi::CallbackInfo& info) {
  client_of(data);
  TransferRequest request;
  request.ticket = read_u32(info[0], "ticket");
  // Every property first: a getter may run JavaScript, which may detach what was read before.
  const Napi::Object object = read_object(info[1], "request");
  request.path = read_path(read_property(object, "path"));
  request.onboard = read_bool(read_property(object, "onboard"), "request.onboard");
  const Napi::Value source = read_property(object, "source");
  const Napi::Value via = read_property(object, "via");
  const Napi::Value target = read_property(object, "target");
  const Napi::Value moves = read_property(object, "moves");
  const Napi::Value hashes = read_property(object, "hashes");
  const Napi::Value parents = read_property(object, "parents");
  const Napi::Value records = read_property(object, "records");
  const std::vector<Napi::Value> after = read_list(read_property(object, "after"), "request.after");
  const Napi::Value ready = read_property(object, "ready");

  for (const Napi::Value& fence : after) request.after.push_back(read_fence(fence, "request.after").fence);
  if (!ready.IsNull() && !ready.IsUndefined()) {
    ReadyBox& box = read_ready(ready, "request.ready");
    if (std::exchange(box.used, true)) fail(Code::kInvalidValue, "request.ready belongs to another transfer");
    request.ready = box.ready;
  }
  request.source = read_storage(source, "request.source").storage;
  if (!via.IsNull() && !via.IsUndefined()) request.via = read_storage(via, "request.via").storage;
  request.target =
      request.path == TransferPath::kSlabCheck ? request.source : read_storage(target, "request.target").storage;

  const std::span<std::uint32_t> words = read_words(moves, "request.moves");
  const std::size_t count = count_blocks(words.size(), kMoveWords, "request.moves", data);
  request.moves.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::span<std::uint32_t> own = words.subspan(i * kMoveWords, kMoveWords);
    request.moves.push_back({own[0], own[1], own[2]});
  }
  request.hashes = copy_hashes(hashes, "request.hashes", count);
  if (request.path == TransferPath::kMemoryToSlab) request.records = copy_records(parents, records, request.hashes);
  submit(data, std::move(request));
  return info.Env().Undefined();
}

Napi::Value cancel(AddonData& data, const Napi::CallbackInfo& info) {
  const std::uint32_t ticket = read_u32(info[0], "ticket");
  const std::uint32_t code = read_u32(info[1], "code", 1, kCodeCount - 1);
  client_of(data).cancel(ticket, static_cast<Code>(code));
  return info.Env().Undefined();
}

Napi::Value start_seal(AddonData& data, const Napi::CallbackInfo& info) {
  return submit_slots(data, info, TransferPath::kSeal);
}

Napi::Value start_fill_pattern(AddonData& data, const Napi::CallbackInfo& info) {
  return submit_slots(data, info, TransferPath::kFillPattern);
}

Napi::Value start_check_pattern(AddonData& data, const Napi::CallbackInfo& info) {
  return submit_slots(data, info, TransferPath::kCheckPattern);
}

}  // namespace kvtier
