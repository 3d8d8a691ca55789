// The vocabulary in which calls read their arguments. A call opens with a list of its preconditions; what does not fit
// fails with a message that names the argument, what is expected and what there was. Only the shape is checked: types,
// lengths, ranges of numbers. Spans are valid until JavaScript runs again, so read every property before the first
// span. The JavaScript thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "binding/napi_setup.h"
#include "layout/slot_layout.h"

namespace kvtier {

// A property of an object or an element of an array, whose getter may be JavaScript and throw (a Thrown).
[[nodiscard]] Napi::Value read_property(const Napi::Object& object, const char* name);
[[nodiscard]] Napi::Value read_element(const Napi::Array& array, std::uint32_t index);

// An integer from `lowest` to `highest`.
[[nodiscard]] std::uint32_t read_u32(const Napi::Value& value, const char* name, std::uint32_t lowest = 0,
                                     std::uint32_t highest = 0xffffffff);
// An integer from `lowest` to `highest`, up to 2^53.
[[nodiscard]] std::uint64_t read_size(const Napi::Value& value, const char* name, std::uint64_t lowest = 0,
                                      std::uint64_t highest = std::uint64_t{1} << 53);
// A number from `lowest` to `highest`; undefined is `missing`.
[[nodiscard]] double read_number(const Napi::Value& value, const char* name, double lowest, double highest,
                                 double missing);
[[nodiscard]] bool read_bool(const Napi::Value& value, const char* name);
// At most 4,096 bytes of UTF-8 without a zero byte.
[[nodiscard]] std::string read_string(const Napi::Value& value, const char* name);
[[nodiscard]] Napi::Object read_object(const Napi::Value& value, const char* name);
[[nodiscard]] Napi::Function read_function(const Napi::Value& value, const char* name);

// A Uint8Array (a Buffer is one) or Uint32Array whose buffer is attached.
[[nodiscard]] std::span<std::uint8_t> read_bytes(const Napi::Value& value, const char* name);
[[nodiscard]] std::span<std::uint32_t> read_words(const Napi::Value& value, const char* name);
// The same with exactly this many elements; `per` says of what, "32 a block" for example.
[[nodiscard]] std::span<std::uint8_t> read_bytes(const Napi::Value& value, const char* name, std::size_t length,
                                                 const char* per);
[[nodiscard]] std::span<std::uint32_t> read_words(const Napi::Value& value, const char* name, std::size_t length,
                                                  const char* per);

// A Float64Array or BigUint64Array of exactly that length.
[[nodiscard]] std::span<double> read_doubles(const Napi::Value& value, const char* name, std::size_t length,
                                             const char* per);
[[nodiscard]] std::span<std::uint64_t> read_quads(const Napi::Value& value, const char* name, std::size_t length,
                                                  const char* per);
// A bigint from 0 to 2^64 - 1.
[[nodiscard]] std::uint64_t read_address(const Napi::Value& value, const char* name);

[[nodiscard]] std::uint32_t read_slot_count(const Napi::Value& value);
[[nodiscard]] GroupShape read_shape(const Napi::Value& value, const char* name);
[[nodiscard]] LayoutKind read_layout_kind(const Napi::Value& value, const char* name);
// The names of LayoutKind in their order.
[[nodiscard]] std::span<const char* const> layout_kind_names() noexcept;

// A short description of a value for messages: "a string", "an array of 3", "-1".
[[nodiscard]] std::string describe_value(const Napi::Value& value);

}  // namespace kvtier
