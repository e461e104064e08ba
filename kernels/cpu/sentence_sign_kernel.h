// What the signs of a sentence's tokens say of a query, in the Simd of the
// including file's level. Included only through sentence_score_kernel.h.
//
// A token's exponent is the sum over d of +-w[d], where w[d] = q[d]
// deviation[d] is rounded to 8 bits, so that four dimensions of a lane's token
// are one multiplication, and the sum is exact: the same on every machine.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

// Lower than any exponent, and yet a number.
constexpr float kLowestExponent = -1e30f;

constexpr int64_t kStripSigns = kPageTokens / Simd::kLanes;
// Vectors of exponents that a sum takes at once: of sentences up to 64 tokens,
// wherever they begin, all but a few.
constexpr int64_t kSignVectors = 4 * kStripSigns;

// A sum of powers of two: `sum` x 2^`highest`.
struct PowerSum {
  float highest = kLowestExponent;
  float sum = 0;

  void Add(const Simd::Vec* exponents, int64_t count) {
    Simd::Vec most = Simd::Set(highest);
    for (int64_t i = 0; i < count; ++i) most = Simd::Max(exponents[i], most);
    const float before = highest;
    highest = Simd::MaxLane(most);
    Simd::Vec added = Simd::Zero();
    for (int64_t i = 0; i < count; ++i) {
      added = Simd::Add(added, Simd::Exp2NonPositive(Simd::Sub(
                                   exponents[i], Simd::Set(highest))));
    }
    sum = Simd::Sum(added) +
          (sum > 0 ? sum * __builtin_exp2f(before - highest) : 0.0f);
  }
};
struct PowerSums {
  Simd::Vec highest = Simd::Set(kLowestExponent);
  Simd::Vec sum = Simd::Zero();

  void Add(const Simd::Vec* exponents, int64_t count) {
    Simd::Vec most = highest;
    for (int64_t i = 0; i < count; ++i) most = Simd::Max(exponents[i], most);
    sum = Simd::Mul(sum, Simd::Exp2NonPositive(Simd::Sub(highest, most)));
    for (int64_t i = 0; i < count; ++i) {
      sum =
          Simd::Add(sum, Simd::Exp2NonPositive(Simd::Sub(exponents[i], most)));
    }
    highest = most;
  }
  // A lane that was given nothing but kLowestExponent adds nothing.
  PowerSum Get() const {
    const float most = Simd::MaxLane(highest);
    return {most, Simd::Sum(Simd::Mul(sum, Simd::Exp2NonPositive(Simd::Sub(
                                               highest, Simd::Set(most)))))};
  }
};

// The weights of one head for one entry.
struct SignWeights {
  const std::byte* elements;  // int8 [QueryWidth(D)], zeros behind D
  float unit;                 // what they are in units of
  float lowest;               // the exponent of a token below all means
};

// One head's query in 16 bits.
struct SignQuery {
  const int16_t* elements;  // [QueryWidth(D)]
  float unit;               // what they are in units of, times 2^15
};

// Rounds `q`, which is 0 behind D, to `elements`.
inline SignQuery RoundQuery(const float* q, int64_t width, int16_t* elements) {
  float most = 0;
  for (int64_t d = 0; d < width; ++d) {
    const float magnitude = __builtin_fabsf(q[d]);
    if (magnitude > most) most = magnitude;
  }
  const float inverse = most > 0 ? 32767.0f / most : 0.0f;
  for (int64_t d = 0; d < width; ++d) {
    elements[d] = static_cast<int16_t>(__builtin_lrintf(q[d] * inverse));
  }
  return {elements, most / 32767.0f * 32768.0f};
}

// Rounds q[d] x deviation[d] to `elements`; `deviation` may be read up to
// QueryWidth(D). `unit`: what the deviations are in units of, as exponents.
inline SignWeights WeighSigns(const SignQuery& q, const std::byte* deviation,
                              float unit, int64_t width, std::byte* elements) {
  Simd::Ints total = Simd::ZeroInts();
  for (int64_t d = 0; d < width; d += 2 * Simd::kLanes) {
    total =
        Simd::ScaleBytes(total, q.elements + d, deviation + d, elements + d);
  }
  const float weight_unit = q.unit * unit;
  return {elements, weight_unit,
          -weight_unit * Simd::Sum(Simd::ToFloats(total))};
}

// The sums over the tokens begin..end-1 of 2^exponent, for kHeads heads.
template <int kHeads>
void SumSigns(const std::byte* signs, int64_t begin, int64_t end,
              const SignWeights* weights, int64_t head_dim, PowerSum* out) {
  PowerSum sums[kHeads];
  Simd::Vec exponents[kHeads][kSignVectors];
  int64_t count = 0;
  for (int64_t strip = begin / kPageTokens; strip * kPageTokens < end;
       ++strip) {
    const auto* above = reinterpret_cast<const uint16_t*>(
        signs + strip * SignStripBytes(head_dim));
    const uint32_t tokens = PageTokenBits(strip, begin, end);
    for (int64_t j = 0; j < kStripSigns; ++j, ++count) {
      const int64_t first = j * Simd::kLanes;
      Simd::Ints dots[kHeads];
      SKV_UNROLL
      for (int h = 0; h < kHeads; ++h) dots[h] = Simd::ZeroInts();
      for (int64_t d = 0; d < head_dim; d += 4) {
        const Simd::Quads bits = Simd::BitQuads(above + d, first);
        SKV_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          int32_t four;
          __builtin_memcpy(&four, weights[h].elements + d, sizeof(four));
          dots[h] = Simd::AddDots(dots[h], bits, Simd::SetQuads(four));
        }
      }
      const Simd::Vec per_bit = Simd::PerBit(first);
      SKV_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        // Above a mean the weight counts once more than not at all: twice.
        const Simd::Vec exponent = Simd::Fma(
            Simd::Mul(Simd::ToFloats(dots[h]), per_bit),
            Simd::Set(2.0f * weights[h].unit), Simd::Set(weights[h].lowest));
        exponents[h][count] =
            Simd::Pick(tokens >> first, exponent, Simd::Set(kLowestExponent));
      }
    }
    if (count < kSignVectors) continue;
    for (int h = 0; h < kHeads; ++h) sums[h].Add(exponents[h], count);
    count = 0;
  }
  for (int h = 0; h < kHeads; ++h) {
    sums[h].Add(exponents[h], count);
    out[h] = sums[h];
  }
}

inline void SumSignsOfHeads(int64_t heads, const std::byte* signs,
                            int64_t begin, int64_t end,
                            const SignWeights* weights, int64_t head_dim,
                            PowerSum* out) {
  switch (heads) {
    case 1:
      return SumSigns<1>(signs, begin, end, weights, head_dim, out);
    case 2:
      return SumSigns<2>(signs, begin, end, weights, head_dim, out);
    case 3:
      return SumSigns<3>(signs, begin, end, weights, head_dim, out);
    default:
      return SumSigns<4>(signs, begin, end, weights, head_dim, out);
  }
}

}  // namespace
}  // namespace sentencekv
