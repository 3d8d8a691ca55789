// describe(): what lib/native/generated.ts is printed from, as JSON text.
#include <string>

#include "binding/calls.h"
#include "transfer/device/copy_choices.h"

namespace kvtier {
namespace {

// Names and meanings are ours: ASCII with at most quotes in them.
std::string quoted(const char* text) {
  std::string out = "\"";
  for (; *text != '\0'; ++text) {
    if (*text == '"' || *text == '\\') out += '\\';
    out += *text;
  }
  return out + "\"";
}

template <typename Names>
std::string list(const Names& names) {
  std::string out;
  for (const char* name : names) out += (out.empty() ? "" : ",") + quoted(name);
  return "[" + out + "]";
}

std::string codes() {
  std::string out;
  for (std::uint8_t i = 0; i < kCodeCount; ++i) {
    const auto code = static_cast<Code>(i);
    out +=
        (i == 0 ? "" : ",") + ("{\"name\":" + quoted(name_of(code))) + ",\"meaning\":" + quoted(meaning_of(code)) + "}";
  }
  return "[" + out + "]";
}

std::string limit(const char* name, std::uint64_t value) {
  return quoted(name) + ":" + std::to_string(value);
}

}  // namespace

Napi::Value describe(AddonData& /*data*/, const Napi::CallbackInfo& info) {
  static constexpr const char* kPaths[] = {
#define KVTIER_PATH_TEXT(name, text) text,
      KVTIER_TRANSFER_PATHS(KVTIER_PATH_TEXT)
#undef KVTIER_PATH_TEXT
  };
  static constexpr const char* kCopyStrategies[] = {
#define KVTIER_COPY_STRATEGY_TEXT(name, text) text,
      KVTIER_COPY_STRATEGIES(KVTIER_COPY_STRATEGY_TEXT)
#undef KVTIER_COPY_STRATEGY_TEXT
  };
  // StorageInfo::kind of the storages that can be opened here.
  static constexpr const char* kStorageKinds[] = {"memory", "device", "slab"};
  const std::string limits = limit("maxBlocksPerTransfer", kMaxTransferBlocks) + "," +
                             limit("maxBlockBytes", kMaxBlockBytes) + "," + limit("recordWords", kRecordWords);
  return Napi::String::New(
      info.Env(), "{\"codes\":" + codes() + ",\"transferPaths\":" + list(kPaths) +
                      ",\"layoutKinds\":" + list(layout_kind_names()) + ",\"storageKinds\":" + list(kStorageKinds) +
                      ",\"copyStrategies\":" + list(kCopyStrategies) + ",\"limits\":{" + limits + "}}");
}

}  // namespace kvtier
