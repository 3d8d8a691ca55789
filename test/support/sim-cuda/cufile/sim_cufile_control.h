// How tests command the simulated cuFile, and what it saw. Misuse that is no matter of speed goes to the violations of
// the simulated driver. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// Forgets everything and begins anew with the environment's settings (KVTIER_SIM_CUFILE) and then these; nullptr: the
// environment's alone. ../README.md lists them. No other thread may be inside the library.
void kvtier_sim_cufile_reset(const char* settings);

// Calls number nth to nth + times - 1 of a function (nullptr: of any), 1 being the next, fail with a code of cuFile
// (5000 and more), or, reads and writes alone, with an errno. times 0: without end.
void kvtier_sim_cufile_fail_call(const char* function, std::uint64_t nth, int code, std::uint64_t times);

// The nth read or write from now, 1 being the next, moves at most that many bytes.
void kvtier_sim_cufile_shorten(std::uint64_t nth, std::size_t bytes);

// Calls of a function since the last reset; nullptr: of all.
std::uint64_t kvtier_sim_cufile_calls(const char* function);

// A count by name: "handles", "buffers" (registered now), and, since the last reset, "unregistered" (transfers to
// memory that was not registered), "sub_pointer" (to a registered buffer by another address than its base), "unaligned"
// (not by 4 KiB), "indirect" (on a file without O_DIRECT), "compat" (in
// compatibility mode): the slow ways. "refused_files": by their open flags.
std::uint64_t kvtier_sim_cufile_count(const char* what);

}  // extern "C"
