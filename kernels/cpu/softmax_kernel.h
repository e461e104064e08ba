// Softmax of a row of scores that are exponents of two, in the Simd of the
// including file's level. Included only by kernels of sentences_LEVEL.cc.
#pragma once

#include "kernels/cpu/simd.h"

namespace sentencekv {
namespace {

// scores[i] = 2^(scores[i] - the highest), i < count; returns 1 / their sum.
// Up to a whole vector what lies behind becomes 0.
inline float ToPowers(float* scores, int64_t count) {
  constexpr int64_t kLanes = Simd::kLanes;
  const int64_t whole = count / kLanes * kLanes;
  if (whole < count) {
    Simd::Store(scores + whole,
                Simd::KeepFirst(Simd::Load(scores + whole), count - whole));
  }
  Simd::Vec highest = Simd::Set(-__builtin_inff());
  for (int64_t i = 0; i < count; i += kLanes) {
    highest = Simd::Max(highest, Simd::Load(scores + i));
  }
  const Simd::Vec maximum = Simd::Set(Simd::MaxLane(highest));
  Simd::Vec total = Simd::Zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const Simd::Vec power =
        Simd::Exp2NonPositive(Simd::Sub(Simd::Load(scores + i), maximum));
    Simd::Store(scores + i, power);
    total = Simd::Add(total, power);
  }
  return 1.0f / Simd::Sum(total);
}

}  // namespace
}  // namespace sentencekv
