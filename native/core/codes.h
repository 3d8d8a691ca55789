// The closed list of error codes of the whole project. C++ names them once; lib/native/generated.ts is printed from
// this table, so that neither side can drift. Any thread.
#pragma once

#include <cstdint>

namespace kvtier {

// Columns: C++ name, public name, what it means to the caller (one sentence, printed into the TypeScript union).
#define KVTIER_CODES(X)                                                                                              \
  X(kOk, "OK", "The call succeeded.")                                                                                \
  X(kInvalidType, "ERR_KV_INVALID_TYPE", "An argument has the wrong type.")                                          \
  X(kInvalidValue, "ERR_KV_INVALID_VALUE", "An option or number lies outside its documented range.")                 \
  X(kInvalidToken, "ERR_KV_INVALID_TOKEN", "A token is not an integer between 0 and 4294967295.")                    \
  X(kNoWholeBlock, "ERR_KV_NO_WHOLE_BLOCK", "The sequence has no whole block where one is needed.")                  \
  X(kDetachedArray, "ERR_KV_DETACHED_ARRAY", "A typed array was detached or resized before the call read it.")       \
  X(kSlotOutOfRange, "ERR_KV_SLOT_OUT_OF_RANGE", "A slot number is not a slot of its storage.")                      \
  X(kSlotRepeated, "ERR_KV_SLOT_REPEATED", "A slot is named twice in one call.")                                     \
  X(kCapacityTooSmall, "ERR_KV_CAPACITY_TOO_SMALL", "A tier's capacity is smaller than one block.")                  \
  X(kLayoutMismatch, "ERR_KV_LAYOUT_MISMATCH", "A store or handle belongs to another layout.")                       \
  X(kUnsupportedModel, "ERR_KV_UNSUPPORTED_MODEL", "The model's configuration is not one that layoutOf can read.")   \
  X(kUnknownPolicy, "ERR_KV_UNKNOWN_POLICY", "No policy of that name is in the catalog.")                            \
  X(kNotADirectory, "ERR_KV_NOT_A_DIRECTORY", "The disk tier's directory is something else, a file for example.")    \
  X(kNotWritable, "ERR_KV_NOT_WRITABLE", "The disk tier's directory cannot be written.")                             \
  X(kUnsafeDirectory, "ERR_KV_UNSAFE_DIRECTORY", "The directory belongs to another user or others may write to it.") \
  X(kNoSpace, "ERR_KV_NO_SPACE", "The file system has no room for the disk tier.")                                   \
  X(kLocked, "ERR_KV_LOCKED", "Another process or manager has the disk tier open.")                                  \
  X(kNotAStore, "ERR_KV_NOT_A_STORE", "The directory or file holds no readable kvtier store.")                       \
  X(kUnknownTrace, "ERR_KV_UNKNOWN_TRACE", "The file is not in a trace format that replay reads.")                   \
  X(kBadTraceLine, "ERR_KV_BAD_TRACE_LINE", "A line of the trace cannot be read.")                                   \
  X(kBadImage, "ERR_KV_BAD_IMAGE", "An engine's state image is not one that kvtier can read.")                       \
  X(kUsage, "ERR_KV_USAGE", "The command line is not one that the kvtier command takes.")                            \
  X(kClosed, "ERR_KV_CLOSED", "The manager, storage or handle was closed.")                                          \
  X(kReleased, "ERR_KV_RELEASED", "The pin, reservation or window was released before.")                             \
  X(kAborted, "ERR_KV_ABORTED", "The caller's AbortSignal ended the call.")                                          \
  X(kDeadline, "ERR_KV_DEADLINE", "The deadline passed first.")                                                      \
  X(kQueueFull, "ERR_KV_QUEUE_FULL", "More blocks are in flight than the engine's queue holds.")                     \
  X(kOutOfBlocks, "ERR_KV_OUT_OF_BLOCKS", "Every slot of the tier is pinned or being filled.")                       \
  X(kOverQuota, "ERR_KV_OVER_QUOTA", "The tenant's quota is used up by blocks that cannot be evicted now.")          \
  X(kOutOfMemory, "ERR_KV_OUT_OF_MEMORY", "Host or device memory could not be allocated.")                           \
  X(kIo, "ERR_KV_IO", "The operating system or the GPU's driver failed a read or a write.")                          \
  X(kChecksum, "ERR_KV_CHECKSUM", "A block's bytes are not those that were stored.")                                 \
  X(kParentLost, "ERR_KV_PARENT_LOST", "A block before this one was lost, so this one cannot be used.")              \
  X(kUnsupported, "ERR_KV_UNSUPPORTED", "This machine or build lacks what the call needs.")                          \
  X(kDeviceLost, "ERR_KV_DEVICE_LOST", "The GPU failed; this process must be restarted to use it again.")            \
  X(kAddonMissing, "ERR_KV_ADDON_MISSING", "The native addon could not be loaded.")                                  \
  X(kInternal, "ERR_KV_INTERNAL", "A promise of kvtier was broken by kvtier itself; please report it.")

enum class Code : std::uint8_t {
#define KVTIER_CODE_NAME(name, text, meaning) name,
  KVTIER_CODES(KVTIER_CODE_NAME)
#undef KVTIER_CODE_NAME
};

// The public name of a code, "ERR_KV_IO" for example.
[[nodiscard]] const char* name_of(Code code) noexcept;
// What the code means to a caller, one sentence.
[[nodiscard]] const char* meaning_of(Code code) noexcept;
inline constexpr std::uint8_t kCodeCount = 0
#define KVTIER_CODE_ONE(name, text, meaning) +1
    KVTIER_CODES(KVTIER_CODE_ONE)
#undef KVTIER_CODE_ONE
    ;

}  // namespace kvtier
