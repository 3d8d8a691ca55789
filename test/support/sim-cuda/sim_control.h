// How tests command the simulated driver: settings, holding and stepping its work, failing it, and what it saw. Tests
// find these functions by dlsym in the library that they gave kvtier as the driver (sim_library.h does). Any thread,
// where nothing else is said.
#pragma once

#include <cstddef>
#include <cstdint>

#include "platform/cuda/cuda_types.h"

extern "C" {

// ---- Settings ----

// Forgets everything (memory, streams, events, contexts, counts, violations, planned failures, holds) and begins anew
// with the environment's settings and then these; nullptr: the environment's alone. cuInit is needed again; registered
// kernels stay. No other thread may be inside the driver, and no handle or pointer of before may be used after.
void kvtier_sim_reset(const char* settings);

// Changes settings of a running simulator: "seed=7 lateness_us=0". README.md lists them. A setting that does not exist
// or cannot be changed now ends the process with a message.
void kvtier_sim_set(const char* settings);

// ---- Exact interleavings ----

// From now on no queued work runs but what is stepped, until it is released. Work of streams made later is held too.
// A call that waits for held work waits.
void kvtier_sim_hold();
void kvtier_sim_release();

// The same for one stream (nullptr: the legacy stream of the calling thread's current context); both kinds of hold
// count, and kvtier_sim_release() ends both.
void kvtier_sim_hold_stream(kvtier::cuda::Stream stream);
void kvtier_sim_release_stream(kvtier::cuda::Stream stream);

// Runs up to that many operations of one stream on the calling thread, held or not, and returns how many it finished:
// fewer when the queue is empty or its head waits for an event, a value or another stream.
std::size_t kvtier_sim_step(kvtier::cuda::Stream stream, std::size_t operations);

// Runs one piece of the stream's first operation, a part of a copy for example. Returns 1 when a piece ran.
std::size_t kvtier_sim_step_piece(kvtier::cuda::Stream stream);

// The same over all streams, in the order the seed gives. With SIZE_MAX: everything that can run.
std::size_t kvtier_sim_step_any(std::size_t operations);

// Streams with a handle, oldest first; returns how many there are, also when more than `capacity`.
std::size_t kvtier_sim_streams(kvtier::cuda::Stream* streams, std::size_t capacity);

// Operations that are queued and not finished.
std::size_t kvtier_sim_pending(kvtier::cuda::Stream stream);

// One line that names the stream's first operation, empty when it has none. Returns its length.
std::size_t kvtier_sim_next(kvtier::cuda::Stream stream, char* text, std::size_t capacity);

// Waits until that many operations are queued over all streams, or until a function was called that many times
// (nullptr: all functions together). Returns 0 when `timeout_ms` passed first.
int kvtier_sim_wait_for_work(std::size_t operations, unsigned timeout_ms);
int kvtier_sim_wait_for_calls(const char* function, std::uint64_t count, unsigned timeout_ms);

// ---- Failures ----

// Calls number nth to nth + times - 1 of a function, 1 being the next, answer `code` and do nothing. The name is the
// base name ("cuMemAlloc", every form of it) or an exported one; nullptr: calls of any function. times 0: without end.
void kvtier_sim_fail_call(const char* function, std::uint64_t nth, int code, std::uint64_t times);

// The nth operation that starts from now on (kind: "copy", "memset", "kernel", or nullptr for any of these) stops in
// its middle and leaves its context in error: every later call in that context answers `code`.
void kvtier_sim_fail_work(const char* kind, std::uint64_t nth, int code);

// What was planned to fail, and has not, does not; also what the settings planned.
void kvtier_sim_fail_nothing();

// A device falls off the bus: its context answers `code` to everything, what was queued never runs, and no new context
// can be made on it.
void kvtier_sim_lose_device(int ordinal, int code);

// ---- What was seen ----

// Calls of a function since the last reset, by base or exported name; nullptr: of all.
std::uint64_t kvtier_sim_calls(const char* function);

// A count by name: "allocations", "streams", "events", "modules", "registrations", "imports", "contexts" (alive now),
// "allocated_bytes", "pageable_copies", "batch_descriptors", "finished_work", "failures" (injected; since the last
// reset).
std::uint64_t kvtier_sim_count(const char* what);

// What a correct program never does: how many were recorded, and one of them as text (returns its length).
std::size_t kvtier_sim_violations();
std::size_t kvtier_sim_violation(std::size_t index, char* text, std::size_t capacity);
void kvtier_sim_clear_violations();

// ---- Device memory ----

// Reads or writes device memory now, in no stream's order. Returns 0 when the range is not device memory.
int kvtier_sim_read(kvtier::cuda::DevicePtr source, void* target, std::size_t bytes);
int kvtier_sim_write(kvtier::cuda::DevicePtr target, const void* source, std::size_t bytes);

// Makes an allocation one that legacy IPC cannot share (0), as memory of the virtual memory functions is, or can (1).
void kvtier_sim_set_ipc_capable(kvtier::cuda::DevicePtr pointer, int capable);

// For the simulated cuFile: keeps a range of device memory from being freed, which until the unpin is a violation that
// names `holder`. Returns the alias, or nullptr when the range is no device memory.
void* kvtier_sim_pin(kvtier::cuda::DevicePtr pointer, std::size_t bytes, const char* holder);
void kvtier_sim_unpin(kvtier::cuda::DevicePtr pointer, const char* holder);

// Whether the calling thread has a current context that is alive and not in error.
int kvtier_sim_has_context();

// Records a violation in the driver's list.
void kvtier_sim_report(const char* text);

}  // extern "C"
