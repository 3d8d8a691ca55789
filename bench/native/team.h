// Threads that share numbered pieces of work, as the transfer engine's threads share operations: each takes the next
// piece until none is left. The clock runs from the moment when every thread is there. Any thread.
#pragma once

#include <cstddef>
#include <functional>

#include "clock.h"

namespace limits {

// Runs `body(thread, piece)` for every piece below `piece_count` on `thread_count` threads.
[[nodiscard]] Elapsed run_team(unsigned thread_count, std::size_t piece_count,
                               const std::function<void(unsigned thread, std::size_t piece)>& body);

}  // namespace limits
