// Conversions between f32 and the 16-bit floats, in plain C++.
//
// Same bits as the F16C instructions: rounding to nearest even, overflow to
// infinity, denormals kept, NaN stays a quiet NaN with its upper payload bits.
// Every function is always inlined: a translation unit compiled for one
// instruction set must not leave a copy behind that the linker may pick for
// the others.
#pragma once

#include <cstdint>

namespace sentencekv {

// Value of an IEEE binary16.
[[gnu::always_inline]] inline float F16ToF32(uint16_t half) {
  // Moves exponent and mantissa to their f32 places; the exponent bias is then
  // short by 127 - 15, which an exact multiplication puts right, denormals
  // included. Infinity and NaN would need more, so they get all exponent bits.
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = uint32_t{half & 0x7fffu} << 13;
  if (magnitude >= 0x0f800000u) {
    const uint32_t quiet = magnitude > 0x0f800000u ? 0x00400000u : 0;
    return __builtin_bit_cast(float, sign | 0x7f800000u | quiet | magnitude);
  }
  const float value = __builtin_bit_cast(float, magnitude) * 0x1p112f;
  return __builtin_bit_cast(float, sign | __builtin_bit_cast(uint32_t, value));
}

// Nearest IEEE binary16, ties to even.
[[gnu::always_inline]] inline uint16_t F32ToF16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {  // NaN
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  // 65520 is half way between the largest binary16 and the next power.
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Below the smallest normal, 2^-14: adding 0.5 leaves units of 2^-24, the
    // denormal step, in the last mantissa bit, rounded by the addition.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    return static_cast<uint16_t>(
        sign | (__builtin_bit_cast(uint32_t, shifted) - 0x3f000000u));
  }
  // Rounds off 13 bits (a carry into the exponent is right) and rebias.
  const uint32_t odd = (magnitude >> 13) & 1;
  return static_cast<uint16_t>(
      sign | ((magnitude - 0x38000000u + 0x0fffu + odd) >> 13));
}

// Value of a bfloat16: the upper half of an f32.
[[gnu::always_inline]] inline float Bf16ToF32(uint16_t half) {
  return __builtin_bit_cast(float, uint32_t{half} << 16);
}

// Nearest bfloat16, ties to even.
[[gnu::always_inline]] inline uint16_t F32ToBf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>((bits >> 16) | 0x40u);  // NaN stays one
  }
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

}  // namespace sentencekv
