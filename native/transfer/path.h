// Where a transfer's bytes go, and what each way needs. The first kPublicPathCount names are those of lib/native; the
// others are work on the slots of one storage that runs through the same queues. Any thread.
#pragma once

#include <cstdint>

namespace kvtier {

// Columns: C++ name, public name.
#define KVTIER_TRANSFER_PATHS(X)                     \
  X(kMemoryToMemory, "memoryToMemory")               \
  X(kMemoryToMemoryChecked, "memoryToMemoryChecked") \
  X(kMemoryToSlab, "memoryToSlab")                   \
  X(kSlabToMemory, "slabToMemory")                   \
  X(kSlabToMemoryVia, "slabToMemoryVia")             \
  X(kSlabCheck, "slabCheck")

enum class TransferPath : std::uint8_t {
#define KVTIER_PATH_NAME(name, text) name,
  KVTIER_TRANSFER_PATHS(KVTIER_PATH_NAME)
#undef KVTIER_PATH_NAME
  // The rest have no public name; each is started by a call of its own.
  kSeal,          // makes the checksum of memory slots that the caller filled
  kFillPattern,   // fills memory slots with the pattern of their hash
  kCheckPattern,  // compares memory slots with the pattern of their hash
};

inline constexpr unsigned kPublicPathCount = 0
#define KVTIER_PATH_ONE(name, text) +1
    KVTIER_TRANSFER_PATHS(KVTIER_PATH_ONE)
#undef KVTIER_PATH_ONE
    ;

// What a path does with the disk, and which of the three storages it uses.
struct PathTraits {
  const char* name = "";
  bool reads_disk = false;       // the source is persistent
  bool writes_disk = false;      // the target is persistent
  bool writes_target = false;    // target slots must be distinct
  bool takes_via = false;        // a via storage may be given
  bool has_target = false;       // source and target are two places
  bool makes_checksum = false;   // of every block; a target in memory keeps it
  bool needs_checksums = false;  // the target in memory, or what goes to disk, must keep them

  [[nodiscard]] constexpr bool memory_only() const noexcept { return !reads_disk && !writes_disk; }
};

[[nodiscard]] constexpr PathTraits traits_of(TransferPath path) noexcept {
  switch (path) {
    case TransferPath::kMemoryToMemory:
      return {.name = "memoryToMemory", .writes_target = true, .has_target = true};
    case TransferPath::kMemoryToMemoryChecked:
      return {.name = "memoryToMemoryChecked",
              .writes_target = true,
              .has_target = true,
              .makes_checksum = true,
              .needs_checksums = true};
    case TransferPath::kMemoryToSlab:
      return {.name = "memoryToSlab",
              .writes_disk = true,
              .writes_target = true,
              .has_target = true,
              .needs_checksums = true};
    case TransferPath::kSlabToMemory:
      return {.name = "slabToMemory",
              .reads_disk = true,
              .writes_target = true,
              .has_target = true,
              .makes_checksum = true};
    case TransferPath::kSlabToMemoryVia:
      return {.name = "slabToMemoryVia",
              .reads_disk = true,
              .writes_target = true,
              .takes_via = true,
              .has_target = true,
              .makes_checksum = true};
    case TransferPath::kSlabCheck:
      return {.name = "slabCheck", .reads_disk = true};
    case TransferPath::kSeal:
      return {.name = "seal", .writes_target = true, .makes_checksum = true, .needs_checksums = true};
    case TransferPath::kFillPattern:
      return {.name = "fillPattern", .writes_target = true};
    case TransferPath::kCheckPattern:
      return {.name = "checkPattern"};
  }
  return {};
}

}  // namespace kvtier
