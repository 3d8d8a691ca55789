// Tables of a disk tier for benchmarks of opening: filled with good records without any payload, and read back in the
// plainest way. One thread at a time; the store must not be open.
#pragma once

#include <cstdint>
#include <string>

#include "clock.h"
#include "core/status.h"

namespace limits {

// Gives every slot of group 0 of a closed store a record, in chains of `chain_blocks` blocks. The chains' slots follow
// each other (`scattered` false) or lie anywhere in the slab. Payloads stay what they are: opening does not read them.
[[nodiscard]] kvtier::Status fill_record_table(const std::string& store_path, std::uint32_t chain_blocks,
                                               bool scattered);

// Reads the file in pieces of 1 MiB and hashes every 128 bytes of it. `records` receives how many there are.
[[nodiscard]] kvtier::Result<Elapsed> read_record_table(const std::string& path, std::uint64_t& records);

}  // namespace limits
