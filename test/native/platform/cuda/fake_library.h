// A fake driver of its own for one test: a copy of the library, since a process has one driver a name. One thread.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include "platform/cuda/cuda_driver.h"
#include "platform/dynamic_library.h"
#include "support/fake-cuda/fake_control.h"
#include "support/sim-cuda/sim_library.h"

namespace kvtier::fake {

// How its functions are found: by cuGetProcAddress_v2, by the older cuGetProcAddress, by their exported names.
enum class Way { kV2, kV1, kNames };

class Library {
 public:
  explicit Library(Way way = Way::kV2) {
    const char* const name = way == Way::kV2 ? "v2" : way == Way::kV1 ? "v1" : "names";
    const std::string original = sim::library_path(std::string("libkvtier_fake_cuda_") + name + ".so");
    const int fd = ::mkstemp(path_.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    {
      std::ifstream from(original, std::ios::binary);
      std::ofstream to(path_, std::ios::binary);
      to << from.rdbuf();
      REQUIRE(to.good());
    }
    auto opened = DynamicLibrary::open(path_, DynamicLibrary::Lifetime::kProcess);
    REQUIRE(opened.is_ok());
    library_ = std::move(opened).value();
    const auto find = library_.function<Control*()>("kvtier_fake_control");
    REQUIRE((find != nullptr));
    control_ = find();
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { ::unlink(path_.c_str()); }

  [[nodiscard]] const std::string& path() const { return path_; }
  // The driver, started as it is commanded when this is called first.
  [[nodiscard]] const CudaDriver& driver() const { return CudaDriver::get(path_); }

  Control* operator->() { return control_; }
  Control& operator*() { return *control_; }

 private:
  std::string path_ = "/tmp/kvtier-fake-cuda-XXXXXX";
  DynamicLibrary library_;
  Control* control_ = nullptr;
};

inline bool contains(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace kvtier::fake
