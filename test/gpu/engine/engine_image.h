// The engine's compiled kernels, as cuModuleLoadData takes them. Any thread.
#pragma once

namespace kvtier::engine {

// Whether there is code for a GPU. Else the image is an empty one, with which the simulated driver finds its host
// forms.
[[nodiscard]] bool has_engine_code() noexcept;
[[nodiscard]] const void* engine_image() noexcept;

}  // namespace kvtier::engine
