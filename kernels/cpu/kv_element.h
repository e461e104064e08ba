// One element of K or V, of any dtype, as f32. For operations that are not hot
// enough for vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"
#include "kernels/half.h"

namespace sentencekv {

inline float KvElement(const std::byte* from, DType dtype, int64_t index) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, from + index * 4, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, from + index * 2, sizeof(half));
  return dtype == DType::kF16 ? F16ToF32(half) : Bf16ToF32(half);
}

}  // namespace sentencekv
