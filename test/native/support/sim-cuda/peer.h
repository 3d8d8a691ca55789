// A second process for tests: this program again, told by a variable of its environment to play a part instead of
// running tests, and talked to through its standard input and output. One thread.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace kvtier::sim {

template <typename Value>
bool receive(int fd, Value& value) {
  return ::read(fd, &value, sizeof(value)) == static_cast<ssize_t>(sizeof(value));
}

template <typename Value>
bool send(int fd, const Value& value) {
  return ::write(fd, &value, sizeof(value)) == static_cast<ssize_t>(sizeof(value));
}

class Peer {
 public:
  Peer(const char* variable, const char* part) {
    int to[2];
    int from[2];
    REQUIRE(::pipe2(to, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(from, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, to[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, from[1], STDOUT_FILENO);
    std::vector<std::string> variables = {std::string(variable) + "=" + part};
    for (char** other = environ; *other != nullptr; ++other) variables.emplace_back(*other);
    std::vector<char*> environment;
    for (std::string& one : variables) environment.push_back(one.data());
    environment.push_back(nullptr);
    char name[] = "kvtier_unit_tests";
    char* arguments[] = {name, nullptr};
    REQUIRE(::posix_spawn(&pid_, "/proc/self/exe", &files, nullptr, arguments, environment.data()) == 0);
    ::posix_spawn_file_actions_destroy(&files);
    ::close(to[0]);
    ::close(from[1]);
    in_ = to[1];
    out_ = from[0];
  }
  ~Peer() {
    if (pid_ > 0) (void)end(SIGKILL);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] int in() const { return in_; }
  [[nodiscard]] int out() const { return out_; }

  // One order and its answer.
  [[nodiscard]] bool order(unsigned char number) const {
    unsigned char answer = 0;
    return send(in_, number) && receive(out_, answer) && answer == 1;
  }

  // Lets it end by itself, or by a signal; returns its exit code.
  int end(int signal = 0) {
    ::close(in_);
    if (signal != 0) ::kill(pid_, signal);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    ::close(out_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = 0;
  int in_ = -1;
  int out_ = -1;
};

}  // namespace kvtier::sim
