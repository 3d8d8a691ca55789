// What each path of a transfer does with bytes, checksums and failures.
#include <algorithm>
#include <numeric>

#include "kernels/copy_block.h"
#include "native/transfer/rig.h"

namespace kvtier {
namespace {

std::vector<std::uint32_t> numbers(std::uint32_t count) {
  std::vector<std::uint32_t> all(count);
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

TEST_CASE("bytes survive the way host, disk, host, device") {
  Rig rig;
  rig.store(0, 20);
  const Reports::Entry load = rig.run(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 20, true));
  rig.all_arrived(load);
  CHECK(load.outcomes.size() == 20);
  CHECK(rig.holds_pattern(rig.device, 20) == numbers(20));
  CHECK(rig.holds_pattern(rig.host, 20) == numbers(20));
}

TEST_CASE("a load without via slots passes the engine's staging") {
  Rig rig;
  rig.store(0, 20);
  rig.all_arrived(rig.run(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 20)));
  rig.all_arrived(rig.run(rig.request(TransferPath::kSlabToMemory, 2, 20, 0)));
  CHECK(rig.holds_pattern(rig.device, 20) == numbers(20));
}

TEST_CASE("a load into contiguous memory is read in place and leaves its checksum there") {
  Rig rig;
  rig.store(3, 2);
  const auto target = rig.adopt(make_memory(LayoutKind::kContiguous, small_shape(), kSlots));
  TransferRequest request = rig.request(TransferPath::kSlabToMemory, 1, 3, 2);
  request.target = target;
  rig.all_arrived(rig.run(std::move(request)));
  CHECK(target->storage().checksum_at(3) == rig.disk->storage().checksum_at(3));
  CHECK(target->storage().checksum_at(4) == rig.disk->storage().checksum_at(4));
  CHECK(rig.holds_pattern(target, 5) == std::vector<std::uint32_t>{3, 4});
}

TEST_CASE("a verified load leaves the checksum in the via slot") {
  Rig rig;
  rig.store(0, 2);
  const auto via = rig.adopt(make_memory(LayoutKind::kContiguous, small_shape(), kSlots));
  TransferRequest request = rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2, true);
  request.via = via;
  request.moves[1].via = kNoSlot;
  rig.all_arrived(rig.run(std::move(request)));
  CHECK(via->storage().checksum_at(0) == rig.disk->storage().checksum_at(0));
  CHECK(via->storage().checksum_at(1) == Checksum{});
  CHECK(rig.holds_pattern(via, 2) == std::vector<std::uint32_t>{0});
  CHECK(rig.holds_pattern(rig.device, 2) == numbers(2));
}

TEST_CASE("a block whose bytes changed on disk is a checksum miss, and only that block") {
  Rig rig;
  rig.store(0, 8);
  rig.raw_disk->at(5)[small_shape().block_bytes() - 1] ^= std::byte{1};
  const auto via = rig.adopt(make_memory(LayoutKind::kContiguous, small_shape(), kSlots));
  TransferRequest request = rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 8, true);
  request.via = via;
  const Reports::Entry entry = rig.run(std::move(request));
  for (std::uint32_t i = 0; i < 8; ++i) {
    CHECK(entry.outcomes[i] == (i == 5 ? miss(Code::kChecksum) : make_outcome(Code::kOk, Stage::kTarget)));
  }
  CHECK(via->storage().checksum_at(5) == Checksum{});
  CHECK(entry.message.find("slot 5") != std::string::npos);
  CHECK(entry.code == Code::kOk);
}

TEST_CASE("a block that is stored under another hash is a checksum miss") {
  Rig rig;
  rig.store(0, 2);
  TransferRequest request = rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 2);
  std::swap(request.hashes[0], request.hashes[1]);
  check_all(rig.run(std::move(request)), Code::kChecksum, Stage::kNowhere);
}

TEST_CASE("one unreadable slot costs one block of its run") {
  Rig rig;
  rig.store(0, 6);
  rig.control.bad_slots = {2};
  const Reports::Entry entry = rig.run(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 6));
  for (std::uint32_t i = 0; i < 6; ++i) {
    CHECK(entry.outcomes[i] == (i == 2 ? miss(Code::kIo) : make_outcome(Code::kOk, Stage::kTarget)));
  }
  CHECK(entry.message == "slot 2 is bad");
}

TEST_CASE("a failed write fails its whole run and no other run") {
  Rig rig;
  rig.store(0, 8);
  rig.control.bad_slots = {1};
  TransferRequest request = rig.request(TransferPath::kMemoryToSlab, 1, 0, 6);
  for (std::uint32_t i = 3; i < 6; ++i) request.moves[i].target = 10 + i;
  const Reports::Entry entry = rig.run(std::move(request));
  for (std::uint32_t i = 0; i < 6; ++i) {
    CHECK(entry.outcomes[i] == (i < 3 ? miss(Code::kIo) : make_outcome(Code::kOk, Stage::kTarget)));
  }
}

TEST_CASE("a write takes the checksum that the source keeps") {
  Rig rig;
  rig.store(0, 1);
  Checksum other{};
  other[0] = 7;
  rig.host->storage().set_checksum(0, other);
  rig.all_arrived(rig.run(rig.request(TransferPath::kMemoryToSlab, 1, 0, 1)));
  CHECK(rig.disk->storage().checksum_at(0) == other);
}

TEST_CASE("memory in another layout is gathered into staging before it is written") {
  Rig rig;
  rig.store(0, 4);
  rig.all_arrived(rig.run(rig.request(TransferPath::kMemoryToMemoryChecked, 1, 0, 4)));
  TransferRequest request = rig.request(TransferPath::kMemoryToSlab, 2, 0, 4);
  request.source = rig.device;
  for (Move& move : request.moves) move.target += 30;
  rig.all_arrived(rig.run(std::move(request)));
  const std::uint64_t bytes = small_shape().block_bytes();
  for (std::uint32_t i = 0; i < 4; ++i) CHECK(std::memcmp(rig.raw_disk->at(i), rig.raw_disk->at(30 + i), bytes) == 0);
  CHECK(rig.disk->storage().checksum_at(31) == rig.disk->storage().checksum_at(1));
  std::byte* tail = rig.raw_disk->at(30) + bytes;
  CHECK(std::all_of(tail, rig.raw_disk->at(31), [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_CASE("a checked copy leaves the source's checksum in the target, a plain one leaves none") {
  Rig rig;
  rig.store(0, 3);
  rig.all_arrived(rig.run(rig.request(TransferPath::kMemoryToMemory, 1, 0, 3)));
  CHECK(rig.device->storage().checksum_at(2) == Checksum{});
  rig.all_arrived(rig.run(rig.request(TransferPath::kMemoryToMemoryChecked, 2, 0, 3)));
  CHECK(rig.device->storage().checksum_at(2) == rig.host->storage().checksum_at(2));
  CHECK(rig.holds_pattern(rig.device, 3) == numbers(3));
}

TEST_CASE("slabCheck verifies and keeps nothing") {
  Rig rig;
  rig.store(0, 3);
  rig.raw_disk->at(1)[0] ^= std::byte{4};
  const Reports::Entry entry = rig.run(rig.request(TransferPath::kSlabCheck, 1, 0, 3));
  CHECK(entry.outcomes[0] == make_outcome(Code::kOk, Stage::kNowhere));
  CHECK(entry.outcomes[1] == miss(Code::kChecksum));
  CHECK(rig.holds_pattern(rig.device, 3).empty());
}

TEST_CASE("blocks larger than a run go one by one") {
  Rig rig;
  const GroupShape shape{.parts = 1, .layers = 5, .outer = 2, .tokens_per_block = 64, .bytes_per_token = 4096};
  REQUIRE(shape.block_bytes() > kRunBytes);
  DiskControl control;
  const auto disk = rig.adopt(std::make_unique<FakeDisk>(shape, 4, control));
  const auto host = rig.adopt(make_memory(LayoutKind::kContiguous, shape, 4));
  const auto device = rig.adopt(make_memory(LayoutKind::kLayersKvInner, shape, 4));
  std::uint32_t ticket = 0;
  for (const TransferPath path : {TransferPath::kFillPattern, TransferPath::kSeal, TransferPath::kMemoryToSlab,
                                  TransferPath::kSlabToMemoryVia, TransferPath::kCheckPattern}) {
    TransferRequest request = rig.request(path, ++ticket, 0, 4);
    if (request.source == rig.host) request.source = host;
    if (request.source == rig.disk) request.source = disk;
    if (request.target == rig.host) request.target = host;
    if (request.target == rig.disk) request.target = disk;
    if (request.target == rig.device) request.target = device;
    if (path == TransferPath::kCheckPattern) request.source = request.target = device;
    const Reports::Entry entry = rig.run(std::move(request));
    for (const Outcome outcome : entry.outcomes) CHECK(code_of(outcome) == Code::kOk);
  }
  CHECK(control.entries().size() == 8);
}

TEST_CASE("a transfer of no blocks reports done and settled") {
  Rig rig;
  const Reports::Entry entry = rig.run(rig.request(TransferPath::kSlabToMemoryVia, 1, 0, 0));
  CHECK(entry.done == 1);
  CHECK(entry.settled == 1);
  CHECK(entry.outcomes.empty());
}

TEST_CASE("what cannot be transferred is refused with its reason and starts nothing") {
  Rig rig;
  const auto refused = [&](TransferRequest&& request) {
    const std::uint32_t ticket = request.ticket;
    const Status status = rig.client->submit(std::move(request));
    CHECK(rig.reports.now(ticket).done == 0);
    return status.code();
  };
  TransferRequest wrong_kind = rig.request(TransferPath::kSlabToMemory, 1, 0, 1);
  wrong_kind.source = rig.host;
  CHECK(refused(std::move(wrong_kind)) == Code::kInvalidValue);

  TransferRequest outside = rig.request(TransferPath::kMemoryToMemory, 2, 0, 1);
  outside.moves[0].target = kSlots;
  CHECK(refused(std::move(outside)) == Code::kSlotOutOfRange);

  TransferRequest twice = rig.request(TransferPath::kMemoryToMemory, 3, 0, 2);
  twice.moves[1].target = 0;
  CHECK(refused(std::move(twice)) == Code::kSlotRepeated);

  TransferRequest via_twice = rig.request(TransferPath::kSlabToMemoryVia, 4, 0, 2, true);
  via_twice.moves[1].via = 0;
  CHECK(refused(std::move(via_twice)) == Code::kSlotRepeated);

  TransferRequest onto_itself = rig.request(TransferPath::kMemoryToMemory, 5, 0, 2);
  onto_itself.target = rig.host;
  CHECK(refused(std::move(onto_itself)) == Code::kSlotRepeated);

  TransferRequest no_via = rig.request(TransferPath::kSlabToMemoryVia, 6, 0, 2, true);
  no_via.via = nullptr;
  CHECK(refused(std::move(no_via)) == Code::kInvalidValue);

  TransferRequest scattered_via = rig.request(TransferPath::kSlabToMemoryVia, 7, 0, 2, true);
  scattered_via.via = rig.device;
  CHECK(refused(std::move(scattered_via)) == Code::kInvalidValue);

  GroupShape other = small_shape();
  other.bytes_per_token = 30;
  TransferRequest shapes = rig.request(TransferPath::kMemoryToMemory, 8, 0, 1);
  shapes.target = rig.adopt(make_memory(LayoutKind::kContiguous, other, 4));
  CHECK(refused(std::move(shapes)) == Code::kLayoutMismatch);

  TransferRequest hashless = rig.request(TransferPath::kMemoryToSlab, 9, 0, 2);
  hashless.hashes.pop_back();
  CHECK(refused(std::move(hashless)) == Code::kInvalidValue);

  TransferRequest too_many = rig.request(TransferPath::kMemoryToMemory, 10, 0, 1);
  too_many.moves.resize(kMaxTransferBlocks + 1);
  CHECK(refused(std::move(too_many)) == Code::kInvalidValue);
}

TEST_CASE("a source slot may be read twice") {
  Rig rig;
  rig.store(0, 1);
  TransferRequest request = rig.request(TransferPath::kSlabToMemory, 1, 0, 2);
  request.moves[1].source = 0;
  request.hashes[1] = hash_of(0);
  rig.all_arrived(rig.run(std::move(request)));
}

}  // namespace
}  // namespace kvtier
