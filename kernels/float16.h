// Conversions between f32 and the two 16-bit float formats, bit by bit, for
// code that cannot count on F16C. `static` rather than plain inline: each file
// keeps its own copy, compiled for its own instruction set (see
// kernels/cpu/cpu_kernels.h).
#pragma once

#include <cstdint>

namespace sentencekv {

// IEEE 754 binary16 to binary32; exact. NaN stays NaN.
static inline float Float16ToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(half & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) {  // infinity and NaN: exponent 31 becomes 255
    return __builtin_bit_cast(float, sign | (rest + 0x70000000u));
  }
  // 2^112 moves the exponent's bias from 15 to 127, subnormals included.
  const float magnitude = __builtin_bit_cast(float, rest) * 0x1p112f;
  return __builtin_bit_cast(float,
                            sign | __builtin_bit_cast(uint32_t, magnitude));
}

// Rounds to nearest, ties to even, as the F16C instruction does; overflow
// gives infinity.
static inline uint16_t FloatToFloat16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {  // NaN, made quiet
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    return static_cast<uint16_t>(sign | 0x7c00u);
  }
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 1/2 leaves the subnormal's bits at the end of the
    // mantissa, rounded by the addition itself.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    return static_cast<uint16_t>(
        sign | (__builtin_bit_cast(uint32_t, shifted) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(
      sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

// bfloat16 is the upper half of binary32.
static inline float BFloat16ToFloat(uint16_t half) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(half) << 16);
}

// Rounds to nearest, ties to even.
static inline uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // NaN, made quiet
    return static_cast<uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace sentencekv
