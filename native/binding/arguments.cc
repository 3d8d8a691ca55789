#include "binding/arguments.h"

#include <array>
#include <cmath>

#include "binding/fault.h"

namespace kvtier {
namespace {

constexpr std::size_t kMaxStringBytes = 4096;
constexpr std::array<const char*, 3> kLayoutKindNames = {"contiguous", "layersKvOuter", "layersKvInner"};

[[noreturn]] void wrong_type(const Napi::Value& value, const char* name, const char* expected) {
  fail(Code::kInvalidType, std::string(name) + " must be " + expected + ", got " + describe_value(value));
}

std::string number_text(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
  if (number == std::floor(number) && std::fabs(number) < 1e15)
    return std::to_string(static_cast<std::int64_t>(number));
  return std::to_string(number);
}

// The elements of a typed array of one kind. Runs no JavaScript.
std::span<std::byte> read_elements(const Napi::Value& value, const char* name, napi_typedarray_type type,
                                   std::size_t element_bytes, const char* expected) {
  if (!value.IsTypedArray()) wrong_type(value, name, expected);
  napi_typedarray_type actual{};
  std::size_t length = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &actual, &length, &data, &buffer, nullptr) != napi_ok) {
    wrong_type(value, name, expected);
  }
  if (actual != type) wrong_type(value, name, expected);
  bool detached = false;
  if (length == 0 && napi_is_detached_arraybuffer(value.Env(), buffer, &detached) == napi_ok && detached) {
    fail(Code::kDetachedArray, std::string(name) + " was detached before the call");
  }
  if (data == nullptr) length = 0;
  return {static_cast<std::byte*>(data), length * element_bytes};
}

void check_length(std::size_t actual, std::size_t expected, const char* name, const char* per) {
  if (actual == expected) return;
  fail(Code::kInvalidValue, std::string(name) + " must have " + std::to_string(expected) + " elements (" + per +
                                "), got " + std::to_string(actual));
}

}  // namespace

std::string describe_value(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number:
      return number_text(value.As<Napi::Number>().DoubleValue());
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_external:
      return "an external";
    case napi_bigint:
      return "a bigint";
    case napi_object:
      if (value.IsTypedArray()) return "another typed array";
      return value.IsArray() ? "an array" : "an object";
  }
  return "something else";
}

Napi::Value read_property(const Napi::Object& object, const char* name) {
  try {
    return object.Get(name);
  } catch (const Napi::Error& error) {
    throw Thrown{error};
  }
}

Napi::Value read_element(const Napi::Array& array, std::uint32_t index) {
  try {
    return array.Get(index);
  } catch (const Napi::Error& error) {
    throw Thrown{error};
  }
}

std::uint64_t read_size(const Napi::Value& value, const char* name, std::uint64_t lowest, std::uint64_t highest) {
  if (!value.IsNumber()) wrong_type(value, name, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  const bool fits = number >= static_cast<double>(lowest) && number <= static_cast<double>(highest);
  if (!fits || number != std::floor(number)) {
    fail(Code::kInvalidValue, std::string(name) + " must be an integer between " + std::to_string(lowest) + " and " +
                                  std::to_string(highest) + ", got " + number_text(number));
  }
  return static_cast<std::uint64_t>(number);
}

std::uint32_t read_u32(const Napi::Value& value, const char* name, std::uint32_t lowest, std::uint32_t highest) {
  return static_cast<std::uint32_t>(read_size(value, name, lowest, highest));
}

double read_number(const Napi::Value& value, const char* name, double lowest, double highest, double missing) {
  if (value.IsUndefined()) return missing;
  if (!value.IsNumber()) wrong_type(value, name, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= lowest && number <= highest)) {
    fail(Code::kInvalidValue, std::string(name) + " must be between " + number_text(lowest) + " and " +
                                  number_text(highest) + ", got " + number_text(number));
  }
  return number;
}

bool read_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) wrong_type(value, name, "true or false");
  return value.As<Napi::Boolean>().Value();
}

std::string read_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong_type(value, name, "a string");
  std::size_t length = 0;
  if (napi_get_value_string_utf8(value.Env(), value, nullptr, 0, &length) != napi_ok || length > kMaxStringBytes) {
    fail(Code::kInvalidValue, std::string(name) + " must have at most " + std::to_string(kMaxStringBytes) +
                                  " bytes of UTF-8, got " + std::to_string(length));
  }
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) {
    fail(Code::kInvalidValue, std::string(name) + " must not contain a zero byte");
  }
  return text;
}

Napi::Object read_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) wrong_type(value, name, "an object");
  return value.As<Napi::Object>();
}

Napi::Function read_function(const Napi::Value& value, const char* name) {
  if (!value.IsFunction()) wrong_type(value, name, "a function");
  return value.As<Napi::Function>();
}

std::span<std::uint8_t> read_bytes(const Napi::Value& value, const char* name) {
  const auto bytes = read_elements(value, name, napi_uint8_array, 1, "a Uint8Array");
  return {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()};
}

std::span<std::uint32_t> read_words(const Napi::Value& value, const char* name) {
  const auto bytes = read_elements(value, name, napi_uint32_array, sizeof(std::uint32_t), "a Uint32Array");
  return {reinterpret_cast<std::uint32_t*>(bytes.data()), bytes.size() / sizeof(std::uint32_t)};
}

std::span<std::uint8_t> read_bytes(const Napi::Value& value, const char* name, std::size_t length, const char* per) {
  const auto bytes = read_bytes(value, name);
  check_length(bytes.size(), length, name, per);
  return bytes;
}

std::span<std::uint32_t> read_words(const Napi::Value& value, const char* name, std::size_t length, const char* per) {
  const auto words = read_words(value, name);
  check_length(words.size(), length, name, per);
  return words;
}

std::span<double> read_doubles(const Napi::Value& value, const char* name, std::size_t length, const char* per) {
  const auto bytes = read_elements(value, name, napi_float64_array, sizeof(double), "a Float64Array");
  check_length(bytes.size() / sizeof(double), length, name, per);
  return {reinterpret_cast<double*>(bytes.data()), length};
}

std::span<std::uint64_t> read_quads(const Napi::Value& value, const char* name, std::size_t length, const char* per) {
  const auto bytes = read_elements(value, name, napi_biguint64_array, sizeof(std::uint64_t), "a BigUint64Array");
  check_length(bytes.size() / sizeof(std::uint64_t), length, name, per);
  return {reinterpret_cast<std::uint64_t*>(bytes.data()), length};
}

std::uint64_t read_address(const Napi::Value& value, const char* name) {
  if (!value.IsBigInt()) wrong_type(value, name, "a bigint");
  bool fits = false;
  const std::uint64_t address = value.As<Napi::BigInt>().Uint64Value(&fits);
  if (!fits) fail(Code::kInvalidValue, std::string(name) + " must be an address between 0 and 2^64 - 1");
  return address;
}

std::uint32_t read_slot_count(const Napi::Value& value) {
  return read_u32(value, "slotCount", 1, 0x7fffffff);
}

GroupShape read_shape(const Napi::Value& value, const char* name) {
  const Napi::Object object = read_object(value, name);
  GroupShape shape;
  shape.parts = read_u32(read_property(object, "parts"), "shape.parts");
  shape.layers = read_u32(read_property(object, "layers"), "shape.layers");
  shape.outer = read_u32(read_property(object, "outer"), "shape.outer");
  shape.tokens_per_block = read_u32(read_property(object, "tokensPerBlock"), "shape.tokensPerBlock");
  shape.bytes_per_token = read_u32(read_property(object, "bytesPerToken"), "shape.bytesPerToken");
  check(shape.validate());
  return shape;
}

LayoutKind read_layout_kind(const Napi::Value& value, const char* name) {
  const std::string text = read_string(value, name);
  std::string known;
  for (std::size_t i = 0; i < kLayoutKindNames.size(); ++i) {
    if (text == kLayoutKindNames[i]) return static_cast<LayoutKind>(i);
    known += (i == 0 ? "'" : ", '") + std::string(kLayoutKindNames[i]) + "'";
  }
  fail(Code::kInvalidValue, std::string(name) + " must be one of " + known + ", got '" + text + "'");
}

std::span<const char* const> layout_kind_names() noexcept {
  return kLayoutKindNames;
}

}  // namespace kvtier
