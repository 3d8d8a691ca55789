#include "platform/dynamic_library.h"

#include <doctest/doctest.h>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

using kvtier::DynamicLibrary;

#if defined(__APPLE__)
constexpr const char* kMathLibrary = "libm.dylib";
#else
constexpr const char* kMathLibrary = "libm.so.6";
#endif

TEST_CASE("a library that is not there fails with the loader's text") {
  const auto library = DynamicLibrary::open("libkvtier-does-not-exist.so.1", DynamicLibrary::Lifetime::kObject);
  REQUIRE_FALSE(library.is_ok());
  CHECK(library.status().code() == kvtier::Code::kUnsupported);
  CHECK(library.status().message().find("libkvtier-does-not-exist.so.1") != std::string::npos);
}

TEST_CASE("a function of an opened library can be called, and one that it lacks is null") {
  auto opened = DynamicLibrary::open(kMathLibrary, DynamicLibrary::Lifetime::kObject);
  REQUIRE(opened.is_ok());
  DynamicLibrary library = std::move(opened).value();
  const auto square_root = library.function<double(double)>("sqrt");
  REQUIRE((square_root != nullptr));
  CHECK(square_root(9.0) == 3.0);
  CHECK((library.function<void()>("kvtier_no_such_function") == nullptr));
  const DynamicLibrary moved = std::move(library);
  CHECK((moved.function<double(double)>("sqrt") == square_root));
}

TEST_CASE("an object without a library has no functions") {
  const DynamicLibrary none;
  CHECK((none.function<void()>("sqrt") == nullptr));
}

TEST_CASE("what the process carries is found by name") {
  const auto length_of = kvtier::function_in_process<std::size_t(const char*)>("strlen");
  REQUIRE((length_of != nullptr));
  CHECK(length_of("four") == 4);
  CHECK((kvtier::function_in_process<void()>("kvtier_no_such_function") == nullptr));
}
