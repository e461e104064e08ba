// RmsNorm and SwiGlu over rows, in the Simd of the including file's level.
// Included only by vector_ops_LEVEL.cc.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_ops.h"

namespace sentencekv {
namespace {

// Sums the squares in four vectors of lanes, then the rest one by one.
inline float SumOfSquares(const float* x, int64_t width) {
  constexpr int64_t kLanes = Simd::kLanes;
  Simd::Vec sums[4] = {Simd::Zero(), Simd::Zero(), Simd::Zero(), Simd::Zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    SKV_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Simd::Vec v = Simd::Load(x + i + j * kLanes);
      sums[j] = Simd::Fma(v, v, sums[j]);
    }
  }
  for (; i + kLanes <= width; i += kLanes) {
    const Simd::Vec v = Simd::Load(x + i);
    sums[0] = Simd::Fma(v, v, sums[0]);
  }
  float rest = 0;
  for (; i < width; ++i) rest += x[i] * x[i];
  return Simd::Sum(Simd::Add(Simd::Add(sums[0], sums[1]),
                             Simd::Add(sums[2], sums[3]))) +
         rest;
}

void NormalizeRows(const RmsNormParams& params, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = Simd::kLanes;
  const int64_t width = params.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = params.x + row * width;
    float* out = params.out + row * width;
    const float mean = SumOfSquares(x, width) / static_cast<float>(width);
    const float inverse = 1.0f / __builtin_sqrtf(mean + params.epsilon);
    const Simd::Vec factor = Simd::Set(inverse);
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      const Simd::Vec v = Simd::Mul(Simd::Load(x + i), factor);
      Simd::Store(out + i, Simd::Mul(v, Simd::Load(params.weight + i)));
    }
    for (; i < width; ++i) out[i] = x[i] * inverse * params.weight[i];
  }
}

// silu(gate) * up = gate / (1 + 2^(-gate log2(e))) * up
inline Simd::Vec GateVector(Simd::Vec gate, Simd::Vec up) {
  const Simd::Vec power = Simd::Exp2(Simd::Mul(gate, Simd::Set(-kLog2E)));
  const Simd::Vec silu = Simd::Div(gate, Simd::Add(Simd::Set(1.0f), power));
  return Simd::Mul(silu, up);
}

void GateRows(const SwiGluParams& params, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = Simd::kLanes;
  const int64_t width = params.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = params.gate_up + row * 2 * width;
    const float* up = gate + width;
    float* out = params.out + row * width;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      Simd::Store(out + i,
                  GateVector(Simd::Load(gate + i), Simd::Load(up + i)));
    }
    for (; i < width; ++i) {
      out[i] = Simd::First(GateVector(Simd::Set(gate[i]), Simd::Set(up[i])));
    }
  }
}

constexpr VectorOpsKernels kVectorOpsKernels = {NormalizeRows, GateRows};

}  // namespace
}  // namespace sentencekv
