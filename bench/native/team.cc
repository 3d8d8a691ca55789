#include "team.h"

#include <algorithm>
#include <atomic>
#include <latch>
#include <thread>
#include <vector>

namespace limits {

Elapsed run_team(unsigned thread_count, std::size_t piece_count,
                 const std::function<void(unsigned thread, std::size_t piece)>& body) {
  std::atomic<std::size_t> next{0};
  std::latch ready(thread_count);
  std::latch start(1);
  std::vector<double> cpu(thread_count);
  std::vector<double> end(thread_count);
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < thread_count; ++thread) {
    threads.emplace_back([&, thread] {
      ready.count_down();
      start.wait();
      const double before = thread_cpu_seconds();
      for (std::size_t piece = next++; piece < piece_count; piece = next++) body(thread, piece);
      cpu[thread] = thread_cpu_seconds() - before;
      end[thread] = wall_seconds();
    });
  }
  ready.wait();
  const double began = wall_seconds();
  start.count_down();
  for (std::thread& thread : threads) thread.join();
  Elapsed elapsed{.wall_seconds = *std::max_element(end.begin(), end.end()) - began};
  for (const double seconds : cpu) elapsed.cpu_seconds += seconds;
  return elapsed;
}

}  // namespace limits
