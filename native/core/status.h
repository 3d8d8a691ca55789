// How failure travels below the binding: a code and a message that says what was asked and what there was. No
// exceptions. Any thread.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/codes.h"

namespace kvtier {

class [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  [[nodiscard]] static Status ok() noexcept { return {}; }
  // A failure of the operating system: `errno_value` chooses the code (ENOSPC, EACCES, ENOTDIR …), `what` is the
  // prefix.
  [[nodiscard]] static Status from_errno(int errno_value, const std::string& what);

  [[nodiscard]] bool is_ok() const noexcept { return code_ == Code::kOk; }
  explicit operator bool() const noexcept { return is_ok(); }
  [[nodiscard]] Code code() const noexcept { return code_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    KVTIER_CHECK(!status_.is_ok());
  }

  [[nodiscard]] bool is_ok() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return is_ok(); }
  [[nodiscard]] const Status& status() const noexcept { return status_; }
  [[nodiscard]] T& value() & {
    KVTIER_CHECK(value_.has_value());
    return *value_;
  }
  [[nodiscard]] const T& value() const& {
    KVTIER_CHECK(value_.has_value());
    return *value_;
  }
  [[nodiscard]] T&& value() && {
    KVTIER_CHECK(value_.has_value());
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace kvtier
