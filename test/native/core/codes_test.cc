#include "core/codes.h"

#include <doctest/doctest.h>
#include <set>
#include <string>

using kvtier::Code;

TEST_CASE("every code has a name of its own and a sentence that explains it") {
  std::set<std::string> names;
  for (std::uint8_t i = 0; i < kvtier::kCodeCount; ++i) {
    const Code code = static_cast<Code>(i);
    const std::string name = kvtier::name_of(code);
    const std::string meaning = kvtier::meaning_of(code);
    CAPTURE(name);
    CHECK(names.insert(name).second);
    CHECK((code == Code::kOk || name.starts_with("ERR_KV_")));
    CHECK(meaning.ends_with("."));
  }
}

TEST_CASE("OK is code 0 and INTERNAL is the last one") {
  CHECK(static_cast<int>(Code::kOk) == 0);
  CHECK(std::string(kvtier::name_of(Code::kOk)) == "OK");
  CHECK(static_cast<int>(Code::kInternal) == kvtier::kCodeCount - 1);
}

TEST_CASE("a number that is no code is named as an internal error") {
  CHECK(std::string(kvtier::name_of(static_cast<Code>(255))) == "ERR_KV_INTERNAL");
  CHECK(std::string(kvtier::meaning_of(static_cast<Code>(255))).empty());
}
