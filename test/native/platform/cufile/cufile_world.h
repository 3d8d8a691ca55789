// What the tests of cuFile share: the simulated library (the one beside the test program, or a copy of it for a test of
// its own), a simulated machine with a started cuFile, and a folder on a disk that takes O_DIRECT. One thread.
#pragma once

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "native/support/sim-cuda/sim_world.h"
#include "platform/cufile/cufile_buffer.h"
#include "platform/cufile/cufile_driver.h"
#include "platform/cufile/cufile_handle.h"
#include "platform/dynamic_library.h"
#include "support/sim-cuda/cufile/sim_cufile_control.h"

namespace kvtier::cufile_world {

// The simulated library's controls, and a clean state.
class SimCufile {
 public:
  explicit SimCufile(std::string path) : path_(std::move(path)) {
    auto opened = DynamicLibrary::open(path_, DynamicLibrary::Lifetime::kProcess);
    if (!opened.is_ok()) FAIL(opened.status().message());
    library_ = std::move(opened).value();
    find("kvtier_sim_cufile_reset", reset);
    find("kvtier_sim_cufile_fail_call", fail_call);
    find("kvtier_sim_cufile_shorten", shorten);
    find("kvtier_sim_cufile_calls", calls);
    find("kvtier_sim_cufile_count", count);
    reset(nullptr);
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  // Transfers that did not go the direct way.
  [[nodiscard]] std::uint64_t slow_ways() const {
    return count("unregistered") + count("sub_pointer") + count("unaligned") + count("indirect") + count("compat") +
           count("refused_files");
  }

  decltype(&kvtier_sim_cufile_reset) reset = nullptr;
  decltype(&kvtier_sim_cufile_fail_call) fail_call = nullptr;
  decltype(&kvtier_sim_cufile_shorten) shorten = nullptr;
  decltype(&kvtier_sim_cufile_calls) calls = nullptr;
  decltype(&kvtier_sim_cufile_count) count = nullptr;

 private:
  template <typename Signature>
  void find(const char* name, Signature*& function) {
    function = library_.function<Signature>(name);
    REQUIRE((function != nullptr));
  }

  std::string path_;
  DynamicLibrary library_;
};

// A copy of the library under another name, which kvtier has not opened yet; it can lack functions.
class CopiedCufile {
 public:
  explicit CopiedCufile(const std::vector<std::string>& lacking = {}) {
    std::ifstream from(sim::library_path("libkvtier_sim_cufile.so"), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(from), std::istreambuf_iterator<char>()};
    for (const std::string& name : lacking) {
      const std::string word = '\0' + name + '\0';
      std::size_t found = 0;
      for (std::size_t at = bytes.find(word); at != std::string::npos; at = bytes.find(word, at)) {
        bytes[at + 1] = 'X';  // a table of symbols finds it under neither name
        ++found;
      }
      REQUIRE(found > 0);
    }
    const int fd = ::mkstemp(path_.data());
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    ::close(fd);
    library_ = std::make_unique<SimCufile>(path_);
  }
  ~CopiedCufile() { ::unlink(path_.c_str()); }
  CopiedCufile(const CopiedCufile&) = delete;
  CopiedCufile& operator=(const CopiedCufile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  const SimCufile* operator->() const { return library_.get(); }

 private:
  std::string path_ = "/tmp/kvtier-cufile-XXXXXX";
  std::unique_ptr<SimCufile> library_;
};

[[nodiscard]] inline const std::string& simulated_cuda() {
  return sim::SimDriver::get().library.path();
}

// A cuFile that is not ready, for there is no such library.
[[nodiscard]] inline const CufileDriver& absent_cufile() {
  return CufileDriver::get(simulated_cuda(), "libkvtier-absent-cufile.so.0");
}

// A folder of its own beside the test program, where O_DIRECT is to be had more often than in /tmp.
class Folder {
 public:
  Folder() : path_(sim::library_path("kvtier-direct-XXXXXX")) { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::string path_;
};

// How many descriptors the process has open.
[[nodiscard]] inline std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

// A simulated machine with cuFile. At its end nothing may be registered any more.
class CufileWorld : public sim::World {
 public:
  explicit CufileWorld(const char* settings = nullptr)
      : sim::World(settings),
        file(sim::library_path("libkvtier_sim_cufile.so")),
        driver(CufileDriver::get(simulated_cuda(), file.path())) {
    if (!driver.is_ready()) FAIL(driver.reason());
    primary = context_of(0);
  }
  ~CufileWorld() {
    CHECK(file.count("handles") == 0);
    CHECK(file.count("buffers") == 0);
    CHECK(CufileBuffer::registered_count() == 0);
  }

  [[nodiscard]] std::shared_ptr<const CudaContext> context_of(int ordinal) const {
    auto made = CudaContext::retain(driver.cuda(), ordinal);
    if (!made.is_ok()) FAIL(made.status().message());
    return made.value();
  }
  [[nodiscard]] CufileBuffer buffer_of(cuda::DevicePtr address, std::uint64_t size_bytes) const {
    auto made = CufileBuffer::register_range(driver, primary, address, size_bytes);
    if (!made.is_ok()) FAIL(made.status().message());
    return std::move(made).value();
  }

  const SimCufile file;
  const CufileDriver& driver;
  std::shared_ptr<const CudaContext> primary;
};

// Bytes that differ from place to place.
[[nodiscard]] inline std::vector<unsigned char> bytes_from(std::size_t count, std::uint64_t seed) {
  std::vector<unsigned char> bytes(count);
  std::uint64_t word = seed * 0xD6E8FEB86659FD93U + 1;
  for (unsigned char& byte : bytes) {
    word = word * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<unsigned char>(word >> 56U);
  }
  return bytes;
}

}  // namespace kvtier::cufile_world
