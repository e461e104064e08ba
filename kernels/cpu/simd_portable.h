// Simd in the vector extensions of g++ and clang: 4 floats, which every
// machine we know has registers for. See simd.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/exp2_fraction.h"
#include "kernels/half.h"

namespace sentencekv {
namespace {

struct Simd {
  typedef float Vec __attribute__((vector_size(16)));
  typedef int32_t Bits __attribute__((vector_size(16)));
  typedef uint32_t Words __attribute__((vector_size(16)));
  typedef uint16_t Halves __attribute__((vector_size(8)));
  static constexpr int kLanes = 4;

  static Vec Zero() { return Vec{}; }
  static Vec Set(float x) { return Vec{x, x, x, x}; }
  static Vec Load(const float* from) {
    Vec x;
    __builtin_memcpy(&x, from, sizeof(x));
    return x;
  }
  static void Store(float* to, Vec x) { __builtin_memcpy(to, &x, sizeof(x)); }

  static Vec LoadI8(const std::byte* from) {
    Vec x;
    for (int i = 0; i < kLanes; ++i) {
      x[i] = static_cast<float>(static_cast<int8_t>(from[i]));
    }
    return x;
  }
  // F16ToF32 on four at once.
  static Vec LoadF16(const std::byte* from) {
    Halves half;
    __builtin_memcpy(&half, from, sizeof(half));
    const Words word = __builtin_convertvector(half, Words);
    const Words magnitude = (word & 0x7fff) << 13;
    const Vec finite = (Vec)magnitude * Set(0x1p112f);
    const Words quiet = (Words)(magnitude > 0x0f800000u) & 0x400000u;
    const Words special = magnitude | 0x7f800000u | quiet;
    const Words bits = magnitude >= 0x0f800000u ? special : (Words)finite;
    return (Vec)(bits | (word & 0x8000) << 16);
  }
  static Vec LoadBf16(const std::byte* from) {
    Halves half;
    __builtin_memcpy(&half, from, sizeof(half));
    return (Vec)(__builtin_convertvector(half, Words) << 16);
  }
  static void StoreF16(std::byte* to, Vec x) {
    const uint16_t half[kLanes] = {F32ToF16(x[0]), F32ToF16(x[1]),
                                   F32ToF16(x[2]), F32ToF16(x[3])};
    __builtin_memcpy(to, half, sizeof(half));
  }
  static void StoreBf16(std::byte* to, Vec x) {
    const uint16_t half[kLanes] = {F32ToBf16(x[0]), F32ToBf16(x[1]),
                                   F32ToBf16(x[2]), F32ToBf16(x[3])};
    __builtin_memcpy(to, half, sizeof(half));
  }

  static Vec Add(Vec a, Vec b) { return a + b; }
  static Vec Sub(Vec a, Vec b) { return a - b; }
  static Vec Mul(Vec a, Vec b) { return a * b; }
  static Vec Div(Vec a, Vec b) { return a / b; }
  // Built with -ffp-contract=off: never fused, on any machine.
  static Vec Fma(Vec a, Vec b, Vec c) { return a * b + c; }
  static Vec Max(Vec a, Vec b) { return a > b ? a : b; }

  static float First(Vec x) { return x[0]; }
  static float Sum(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
  static float MaxLane(Vec x) {
    const float even = x[0] > x[2] ? x[0] : x[2];
    const float odd = x[1] > x[3] ? x[1] : x[3];
    return even > odd ? even : odd;
  }

  static Vec Pick(uint32_t bits, Vec a, Vec b) {
    const Bits lanes = {1, 2, 4, 8};
    return (lanes & static_cast<int32_t>(bits)) == lanes ? a : b;
  }
  static uint32_t PositiveBits(Vec x) {
    uint32_t bits = 0;
    for (int i = 0; i < kLanes; ++i) bits |= (x[i] > 0 ? 1u : 0u) << i;
    return bits;
  }
  static Vec KeepFirst(Vec x, int64_t count) {
    const Bits keep = Bits{0, 1, 2, 3} < static_cast<int32_t>(count);
    return keep ? x : Set(-__builtin_inff());
  }
  static Vec RotatePairs(Vec x, Vec cos_sin) {
    return Vec{x[0] * cos_sin[0] - x[1] * cos_sin[1],
               x[0] * cos_sin[1] + x[1] * cos_sin[0],
               x[2] * cos_sin[2] - x[3] * cos_sin[3],
               x[2] * cos_sin[3] + x[3] * cos_sin[2]};
  }

  static Vec Exp2NonPositive(Vec x) {
    const Vec lowest = Set(-126.0f);
    // Keeps NaN out of the conversion to integers; it comes back at the end.
    const Vec clamped = x >= lowest ? x : lowest;
    // Adding 1.5 * 2^23 rounds to a whole number, ties to even.
    const Vec shift = Set(0x1.8p23f);
    const Vec whole = (clamped + shift) - shift;
    const Vec power = Exp2Fraction<Simd>(clamped - whole);
    const Bits exponent = __builtin_convertvector(whole, Bits) << 23;
    const Vec scaled = (Vec)((Bits)power + exponent);
    const Vec result = x < lowest ? Zero() : scaled;
    return x != x ? x : result;
  }
  // By halves, so that neither factor leaves the range of exponents.
  static Vec Exp2(Vec x) {
    const Vec half = x * Set(0.5f);
    const Vec root = Exp2NonPositive(half > Set(126.0f) ? Set(126.0f) : half);
    return root * root;
  }

  typedef Bits Ints;
  // Byte i of lane l is at 4 l + i.
  struct Quads {
    int8_t bytes[4 * kLanes];
  };
  static Ints ScaleBytes(Ints sums, const int16_t* factors,
                         const std::byte* from, std::byte* to) {
    for (int i = 0; i < 2 * kLanes; ++i) {
      const int32_t product = factors[i] * static_cast<int8_t>(from[i]);
      const int32_t scaled = (product + (1 << 14)) >> 15;
      to[i] = static_cast<std::byte>(scaled);
      sums[i / 2] += scaled;
    }
    return sums;
  }
  static Ints ZeroInts() { return Ints{}; }
  static Quads SetQuads(int32_t four) {
    Quads x;
    for (int l = 0; l < kLanes; ++l) {
      __builtin_memcpy(x.bytes + 4 * l, &four, sizeof(four));
    }
    return x;
  }
  static Quads BitQuads(const uint16_t* words, int64_t first) {
    Quads x;
    const int64_t byte = first / 8 * 8;
    for (int l = 0; l < kLanes; ++l) {
      const int bit = 1 << (first % 8 + l);
      for (int i = 0; i < 4; ++i) {
        x.bytes[4 * l + i] = static_cast<int8_t>((words[i] >> byte) & bit);
      }
    }
    return x;
  }
  static Vec PerBit(int64_t first) {
    const Vec four = {0x1p0f, 0x1p-1f, 0x1p-2f, 0x1p-3f};
    return first % 8 == 0 ? four : four * Set(0x1p-4f);
  }
  static Ints AddDots(Ints sums, Quads a, Quads b) {
    for (int l = 0; l < kLanes; ++l) {
      for (int i = 0; i < 4; ++i) {
        sums[l] +=
            static_cast<uint8_t>(a.bytes[4 * l + i]) * b.bytes[4 * l + i];
      }
    }
    return sums;
  }
  static Vec ToFloats(Ints x) { return __builtin_convertvector(x, Vec); }
};

}  // namespace
}  // namespace sentencekv
