// How tests command a fake driver: a library with the driver's functions that answer what they are told and do nothing.
// For the ways in which a driver is found and started, and for what kvtier calls in which order; a driver that really
// moves bytes is in support/sim-cuda/. One thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "platform/cuda/cuda_functions.h"

namespace kvtier::fake {

struct Control {
  // What cuDriverGetVersion says, and the newest form that cuGetProcAddress gives.
  int version = 13000;
  // cuGetProcAddress answers a question for a newer form with an older one instead of failing.
  bool lenient = false;
  int device_count = 2;
  // A base name that cuGetProcAddress does not know.
  std::string missing;
  // The base name of a function whose calls fail with `failure`. "*": every function.
  std::string failing;
  cuda::Error failure = cuda::Error::kUnknown;

  // The exported names of the functions that were called, in order, and what cuGetProcAddress was asked for.
  std::vector<std::string> calls;
  std::vector<std::pair<std::string, int>> asked;
  int retained = 0;  // holds on primary contexts
  int streams = 0;   // alive
  int events = 0;    // alive
  cuda::Context current = nullptr;
  unsigned stream_flags = 0;  // of the newest stream
  int stream_priority = 0;
  unsigned event_flags = 0;  // of the newest event
};

}  // namespace kvtier::fake

// Found by dlsym in the fake driver.
extern "C" kvtier::fake::Control* kvtier_fake_control();
