// Comparing our own declaration of a vendor's function with the vendor's, when a test is compiled.
#pragma once

#include <type_traits>

namespace kvtier::same_call {

// Whether a value of one type is passed, returned and stored as one of the other: the vendor's enumerations, handles
// and structures have other names than ours.
template <typename Ours, typename Theirs>
constexpr bool same_value() {
  if constexpr (std::is_void_v<Ours> || std::is_void_v<Theirs>) {
    return true;  // behind a pointer alone
  } else if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) {
    using Our = std::remove_pointer_t<Ours>;
    using Their = std::remove_pointer_t<Theirs>;
    // Opaque handles have no size; ours says const where a function does not write, and so must theirs.
    constexpr bool both_const = std::is_const_v<Our> == std::is_const_v<Their>;
    if constexpr (std::is_class_v<Our> && std::is_class_v<Their> && std::is_pointer_v<Ours>) {
      return both_const;
    } else {
      return both_const && same_value<std::remove_cv_t<Our>, std::remove_cv_t<Their>>();
    }
  } else if constexpr (std::is_class_v<Ours> && std::is_class_v<Theirs>) {
    return sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs) && std::is_trivially_copyable_v<Ours>;
  } else if constexpr (std::is_floating_point_v<Ours> || std::is_floating_point_v<Theirs>) {
    return std::is_same_v<Ours, Theirs>;
  } else {
    return std::is_pointer_v<Ours> == std::is_pointer_v<Theirs> && std::is_class_v<Ours> == std::is_class_v<Theirs> &&
           sizeof(Ours) == sizeof(Theirs);
  }
}

template <typename Ours, typename Theirs>
struct SameCall : std::false_type {};
template <typename OurResult, typename... Ours, typename TheirResult, typename... Theirs>
  requires(sizeof...(Ours) == sizeof...(Theirs))
struct SameCall<OurResult(Ours...), TheirResult(Theirs...)>
    : std::bool_constant<same_value<OurResult, TheirResult>() && (same_value<Ours, Theirs>() && ...)> {};

}  // namespace kvtier::same_call
