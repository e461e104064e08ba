// The vector type that a kernel file is compiled with: `Simd`, of kLanes
// floats. Chosen by the -m flags of the file, so that one text of a kernel
// (attention_kernel.h, vector_ops_kernel.h, rope_kernel.h) serves all levels.
//
// Everything here is in an anonymous namespace on purpose: every file keeps its
// own copy, and the linker can never give a portable file code that was made
// for a newer machine. Only files named *_LEVEL.cc may include it.
//
// Members of each Simd:
//   Vec, kLanes          the vector and its number of floats
//   Zero, Set, Load, Store          Load and Store need no alignment
//   LoadI8               kLanes bytes, each a float
//   LoadF16, LoadBf16, StoreF16, StoreBf16   with conversion, as half.h does
//   Add, Sub, Mul, Div
//   Fma(a, b, c)         a * b + c: fused at the AVX levels, rounded twice in
//                        the portable one
//   Max(a, b)            b where either is NaN
//   First                lane 0
//   Sum, MaxLane         over all lanes, in a fixed order of halves
//   Pick(bits, a, b)     lane i of a where bit i is set, else of b
//   PositiveBits(x)      bit i: lane i is above 0
//   KeepFirst(x, n)      lanes n and above replaced by -infinity
//   RotatePairs(x, cs)   (x0, x1), (cos, sin) -> (x0 cos - x1 sin, x0 sin + x1
//                        cos) for neighbouring lanes
//   Exp2NonPositive(x)   2^x, x <= 0, relative error below 2e-7; 0 for
//   -infinity
//                        and where the result would be denormal (but for
//                        AVX-512, which keeps denormals)
//   Exp2(x)              2^x for any x, relative error below 4e-7
//   Ints, ZeroInts       kLanes 32-bit integers
//   Quads                four bytes a lane
//   SetQuads             the same four in every lane
//   BitQuads(words, t)   byte i of lane l: bit t + l of words[i], which is 0 or
//                        2^((t + l) % 8); t a multiple of kLanes below 16
//   PerBit(t)            lane l: 1 / 2^((t + l) % 8)
//   ScaleBytes(s, f, x, to) to[i] = f[i] x[i] / 2^15, rounded half up, of 2 kLanes
//                        signed bytes x and 16-bit factors f; returns s + the
//                        sums of neighbours in `to`
//   AddDots(s, a, b)     s + the sum over a lane's bytes of a b; a unsigned, at
//                        most 128, b from -127..127
//   ToFloats             of Ints
#pragma once

#if defined(__AVX512F__)
#include "kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_portable.h"
#endif

#include "kernels/dtype.h"

// Unrolls the loop that follows, whose count is a small constant: without it
// g++ at -O2 keeps arrays of accumulators in memory.
#if defined(__clang__)
#define SKV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SKV_UNROLL _Pragma("GCC unroll 16")
#endif

namespace sentencekv {
namespace {

// Loads kLanes elements of a type.
template <DType kType>
[[gnu::always_inline]] inline Simd::Vec LoadAs(const std::byte* from) {
  if constexpr (kType == DType::kF16) return Simd::LoadF16(from);
  if constexpr (kType == DType::kBF16) return Simd::LoadBf16(from);
  if constexpr (kType == DType::kF32) {
    return Simd::Load(reinterpret_cast<const float*>(from));
  }
}

}  // namespace
}  // namespace sentencekv
