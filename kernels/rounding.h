// Counts of what covers something.
#pragma once

#include <concepts>
#include <type_traits>

namespace sentencekv {

// ceil(count / size), of numbers that are not negative.
template <std::integral T>
constexpr T CeilDiv(T count, std::type_identity_t<T> size) {
  return (count + size - 1) / size;
}

// The lowest multiple that is not below `value`.
template <std::integral T>
constexpr T RoundUp(T value, std::type_identity_t<T> multiple) {
  return CeilDiv(value, multiple) * multiple;
}

}  // namespace sentencekv
