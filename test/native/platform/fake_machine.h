// A machine's /proc and /sys in a folder, for what looks at them below another root. One thread.
#pragma once

#include <unistd.h>

#include <doctest/doctest.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace kvtier {

class FakeMachine {
 public:
  FakeMachine() { REQUIRE(::mkdtemp(root_.data()) != nullptr); }
  ~FakeMachine() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  FakeMachine(const FakeMachine&) = delete;
  FakeMachine& operator=(const FakeMachine&) = delete;

  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text << "\n";
  }
  [[nodiscard]] const std::string& root() const { return root_; }

 private:
  std::string root_ = "/tmp/kvtier-machine-XXXXXX";
};

}  // namespace kvtier
