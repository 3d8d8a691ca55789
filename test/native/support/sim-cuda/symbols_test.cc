// How the simulated driver is found: exported names, cuGetProcAddress, versions.
#include <signal.h>
#include <sys/wait.h>

#include <cstdio>

#include "native/support/sim-cuda/sim_world.h"

namespace {

using namespace kvtier::sim;

using FindV2 = Error(const char*, void**, int, std::uint64_t, int*);
using FindV1 = Error(const char*, void**, int, std::uint64_t);

struct Answer {
  Error error = Error::kUnknown;
  void* address = nullptr;
  int status = -1;
};

Answer ask(const World& world, const char* base, int version) {
  FindV2* find = nullptr;
  world.sim.library.find("cuGetProcAddress_v2", find);
  Answer answer;
  answer.error = find(base, &answer.address, version, 1, &answer.status);
  return answer;
}

}  // namespace

TEST_CASE("sim-cuda: cuGetProcAddress gives every function of the table in its own form") {
  const World world;
#define CHECK_FORM(member, base, symbol, version, ...) \
  CHECK(ask(world, base, version).address != nullptr); \
  CHECK(ask(world, base, version).address == world.sim.library.find(symbol));
  KVTIER_CUDA_REQUIRED(CHECK_FORM)
  KVTIER_CUDA_OPTIONAL(CHECK_FORM)
#undef CHECK_FORM
}

TEST_CASE("sim-cuda: the batch copy's form depends on the version asked for") {
  const World world;
  void* const old_form = world.sim.library.find("cuMemcpyBatchAsync");
  void* const new_form = world.sim.library.find("cuMemcpyBatchAsync_v2");
  CHECK(old_form != new_form);
  CHECK(ask(world, "cuMemcpyBatchAsync", 12080).address == old_form);
  CHECK(ask(world, "cuMemcpyBatchAsync", 12090).address == old_form);
  CHECK(ask(world, "cuMemcpyBatchAsync", 13000).address == new_form);
  const Answer too_old = ask(world, "cuMemcpyBatchAsync", 12040);
  CHECK(too_old.error == Error::kSuccess);
  CHECK(too_old.address == nullptr);
  CHECK(too_old.status == 2);
  const Answer unknown = ask(world, "cuNoSuchFunction", 13000);
  CHECK(unknown.error == Error::kSuccess);
  CHECK(unknown.address == nullptr);
  CHECK(unknown.status == 1);
}

TEST_CASE("sim-cuda: an older driver has no newer functions and takes no newer version") {
  const World world("version=12040");
  int version = 0;
  CHECK(world.cuda.driver_get_version(&version) == Error::kSuccess);
  CHECK(version == 12040);
  CHECK(ask(world, "cuMemcpyBatchAsync", 12040).status == 1);
  CHECK(ask(world, "cuMemcpyBatchAsync", 12080).error == Error::kInvalidValue);
  CHECK(ask(world, "cuMemAlloc", 12040).address == world.sim.library.find("cuMemAlloc_v2"));
}

TEST_CASE("sim-cuda: calling a function that the driver of this version does not have is a violation") {
  const World world("version=12080");
  CHECK(world.cuda.memcpy_batch_async_13000(nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0, nullptr) ==
        Error::kNotSupported);
  CHECK(has(world.violation(), "cuMemcpyBatchAsync_v2"));
}

TEST_CASE("sim-cuda: the form of cuGetProcAddress before CUDA 12 says with an error what is not there") {
  const World world("version=11080");
  FindV1* find = nullptr;
  world.sim.library.find("cuGetProcAddress", find);
  void* address = nullptr;
  CHECK(find("cuInit", &address, 11080, 0) == Error::kSuccess);
  CHECK(address == world.sim.library.find("cuInit"));
  CHECK(find("cuMemcpyBatchAsync", &address, 11080, 0) == Error::kNotFound);
  CHECK(address == nullptr);
  world.sim.reset("version=11020");
  CHECK(find("cuInit", &address, 11020, 0) == Error::kNotFound);
}

TEST_CASE("sim-cuda: nothing but the version can be asked for before cuInit") {
  const World world;
  world.sim.reset(nullptr);
  int value = 0;
  CHECK(world.cuda.driver_get_version(&value) == Error::kSuccess);
  CHECK(world.cuda.device_get_count(&value) == Error::kNotInitialized);
  CHECK(world.cuda.init(1) == Error::kInvalidValue);
  world.sim.reset("devices=0");
  CHECK(world.cuda.init(0) == Error::kNoDevice);
}

TEST_CASE("sim-cuda: a child of fork() has no driver") {
  const World world;
  const pid_t child = ::fork();
  if (child == 0) {
    int count = 0;
    ::_exit(world.cuda.device_get_count(&count) == Error::kNotInitialized ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("sim-cuda: errors have CUDA's names") {
  const World world;
  const char* text = nullptr;
  CHECK(world.cuda.get_error_name(Error::kIllegalAddress, &text) == Error::kSuccess);
  CHECK(std::string(text) == "CUDA_ERROR_ILLEGAL_ADDRESS");
  CHECK(world.cuda.get_error_string(Error::kOutOfMemory, &text) == Error::kSuccess);
  CHECK(std::string(text) == "out of memory");
  CHECK(world.cuda.get_error_name(static_cast<Error>(12345), &text) == Error::kInvalidValue);
  CHECK(text == nullptr);
}

TEST_CASE("sim-cuda: devices have names, attributes and UUIDs that do not depend on their ordinals") {
  kvtier::cuda::Uuid first{};
  {
    const World world("capability=12.1");
    int count = 0;
    CHECK(world.cuda.device_get_count(&count) == Error::kSuccess);
    CHECK(count == 2);
    int value = 0;
    CHECK(world.cuda.device_get_attribute(&value, kvtier::cuda::DeviceAttribute::kComputeCapabilityMajor, 1) ==
          Error::kSuccess);
    CHECK(value == 12);
    CHECK(world.cuda.device_get(&value, 2) == Error::kInvalidDevice);
    CHECK(world.cuda.device_get_uuid(&first, 0) == Error::kSuccess);
  }
  const World world("visible=1,0");
  kvtier::cuda::Uuid second{};
  CHECK(world.cuda.device_get_uuid(&second, 1) == Error::kSuccess);
  CHECK(first.bytes == second.bytes);
  char name[64] = "";
  CHECK(world.cuda.device_get_name(name, sizeof(name), 1) == Error::kSuccess);
  CHECK(std::string(name) == "kvtier simulated GPU 0");
}

TEST_CASE("sim-cuda: a setting that does not exist ends the process") {
  const World world;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    if (::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(0);
    world.sim.set("sede=7");
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK_FALSE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
}
