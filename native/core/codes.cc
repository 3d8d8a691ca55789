#include "core/codes.h"

namespace kvtier {

const char* name_of(Code code) noexcept {
  switch (code) {
#define KVTIER_CODE_CASE(name, text, meaning) \
  case Code::name:                            \
    return text;
    KVTIER_CODES(KVTIER_CODE_CASE)
#undef KVTIER_CODE_CASE
  }
  return "ERR_KV_INTERNAL";
}

const char* meaning_of(Code code) noexcept {
  switch (code) {
#define KVTIER_CODE_CASE(name, text, meaning) \
  case Code::name:                            \
    return meaning;
    KVTIER_CODES(KVTIER_CODE_CASE)
#undef KVTIER_CODE_CASE
  }
  return "";
}

}  // namespace kvtier
