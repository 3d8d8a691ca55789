// A client of the engine with a host tier, a device tier in another layout and a fake disk, and the calls that tests
// make on them. One thread.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "native/transfer/fakes.h"
#include "transfer/engine.h"

namespace kvtier {

constexpr std::uint32_t kSlots = 64;

struct Rig {
  explicit Rig(unsigned threads = 4, EngineOptions options = {}) {
    options.threads = threads;
    auto opened = EngineClient::open(options, reports);
    REQUIRE(opened.is_ok());
    client = std::move(opened).value();
    host = adopt(make_memory(LayoutKind::kContiguous, small_shape(), kSlots));
    device = adopt(make_memory(LayoutKind::kLayersKvOuter, small_shape(), kSlots));
    auto fake = std::make_unique<FakeDisk>(small_shape(), kSlots, control);
    raw_disk = fake.get();
    disk = adopt(std::move(fake));
  }
  ~Rig() { control.gate.open(); }

  // A disk of its own number, behind a gate of its own.
  std::shared_ptr<SharedStorage> add_disk(DiskControl& disk_control, std::uint64_t number) {
    return adopt(std::make_unique<FakeDisk>(small_shape(), kSlots, disk_control, number));
  }

  // A task that the gate holds.
  void start_held(std::uint32_t ticket, Lane lane, Gate& gate) {
    start_task(ticket, lane, {}, [&gate] { gate.pass(); });
  }
  void start_task(std::uint32_t ticket, Lane lane, std::vector<std::shared_ptr<SharedStorage>> uses,
                  std::function<void()> body) {
    const Status status = client->start(ticket, lane, std::move(uses), [body = std::move(body)] {
      body();
      return TaskOutcome{};
    });
    REQUIRE_MESSAGE(status.is_ok(), status.message());
  }
  void start_erase(std::uint32_t ticket, const std::shared_ptr<SharedStorage>& storage, std::uint32_t slot) {
    start_task(ticket, Lane::kDisk, {storage},
               [storage, slot] { CHECK(storage->storage().erase(std::vector{slot}).is_ok()); });
  }
  void start_sync(std::uint32_t ticket, const std::shared_ptr<SharedStorage>& storage) {
    start_task(ticket, Lane::kDisk, {storage}, [storage] { CHECK(storage->storage().sync().is_ok()); });
  }

  std::shared_ptr<SharedStorage> adopt(std::unique_ptr<Storage> storage) {
    auto shared = client->adopt(std::move(storage));
    REQUIRE(shared.is_ok());
    return std::move(shared).value();
  }

  // Blocks `first`, `first + 1`, ... with hashes of their number, in slots of the same numbers everywhere.
  TransferRequest request(TransferPath path, std::uint32_t ticket, std::uint32_t first, std::uint32_t count,
                          bool via = false) {
    TransferRequest request;
    request.ticket = ticket;
    request.path = path;
    const PathTraits traits = traits_of(path);
    request.source = traits.reads_disk ? disk : host;
    request.target = traits.writes_disk ? disk : traits.has_target ? device : request.source;
    request.onboard = traits.reads_disk;
    if (via) request.via = host;
    for (std::uint32_t i = first; i < first + count; ++i) {
      request.moves.push_back({i, via ? i : kNoSlot, i});
      request.hashes.push_back(hash_of(i));
      if (path == TransferPath::kMemoryToSlab) request.records.push_back({.hash = hash_of(i)});
    }
    return request;
  }

  Reports::Entry run(TransferRequest&& request) {
    const std::uint32_t ticket = request.ticket;
    const Status status = client->submit(std::move(request));
    REQUIRE_MESSAGE(status.is_ok(), status.message());
    return reports.settled(ticket);
  }

  void start(TransferRequest&& request) {
    const Status status = client->submit(std::move(request));
    REQUIRE_MESSAGE(status.is_ok(), status.message());
  }

  // Fills host slots with their patterns, seals them and writes them to the disk. Uses tickets from 1,000,001.
  void store(std::uint32_t first, std::uint32_t count) {
    for (const TransferPath path : {TransferPath::kFillPattern, TransferPath::kSeal, TransferPath::kMemoryToSlab}) {
      all_arrived(run(request(path, ++internal_ticket, first, count)));
    }
  }

  void all_arrived(const Reports::Entry& entry) {
    CHECK(entry.code == Code::kOk);
    for (const Outcome outcome : entry.outcomes) CHECK(outcome == make_outcome(Code::kOk, Stage::kTarget));
  }

  // The slots of a storage that hold their own pattern.
  std::vector<std::uint32_t> holds_pattern(const std::shared_ptr<SharedStorage>& storage, std::uint32_t count) {
    TransferRequest check = request(TransferPath::kCheckPattern, ++internal_ticket, 0, count);
    check.source = check.target = storage;
    const Reports::Entry entry = run(std::move(check));
    std::vector<std::uint32_t> good;
    for (std::uint32_t i = 0; i < count; ++i) {
      if (code_of(entry.outcomes[i]) == Code::kOk) good.push_back(i);
    }
    return good;
  }

  Reports reports;
  DiskControl control;
  std::unique_ptr<EngineClient> client;
  std::shared_ptr<SharedStorage> host;
  std::shared_ptr<SharedStorage> device;
  std::shared_ptr<SharedStorage> disk;
  FakeDisk* raw_disk = nullptr;
  std::uint32_t internal_ticket = 1000000;
};

inline void check_all(const Reports::Entry& entry, Code code, Stage stage) {
  for (const Outcome outcome : entry.outcomes) CHECK(outcome == make_outcome(code, stage));
}

}  // namespace kvtier
