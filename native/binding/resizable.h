// Whether a buffer can change its size, which memory that native code keeps an address of must not. An object may say
// of itself what it likes, so the getters of the prototypes are asked, as they were when the environment was
// initialized. The JavaScript thread.
#pragma once

#include "binding/napi_setup.h"

namespace kvtier {

class ResizableCheck {
 public:
  // Takes the getters; where the engine knows no such buffers there are none. Once, before is_resizable().
  void initialize(Napi::Env env);
  // Of the buffer of a typed array.
  [[nodiscard]] bool is_resizable(const Napi::Value& array) const;

 private:
  Napi::FunctionReference resizable_;  // of ArrayBuffer
  Napi::FunctionReference growable_;   // of SharedArrayBuffer
};

}  // namespace kvtier
