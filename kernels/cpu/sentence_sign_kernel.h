// What the signs of a sentence's tokens say of a query, in the Simd of the
// including file's level. Included only through sentence_score_kernel.h.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

// Lower than any score, and yet a number.
constexpr float kLowestScore = -1e30f;

constexpr int64_t kSignVectors = kPageTokens / Simd::kLanes;

// Logarithm of a sum of powers of two, one sum a lane.
struct LogSum {
  Simd::Vec highest = Simd::Set(kLowestScore);
  Simd::Vec sum = Simd::Zero();

  // Adds 2^x in the lanes of `bits`.
  void Add(Simd::Vec x, uint32_t bits) {
    const Simd::Vec most =
        Simd::Max(Simd::Pick(bits, x, Simd::Set(kLowestScore)), highest);
    const Simd::Vec power = Simd::Exp2NonPositive(Simd::Sub(x, most));
    sum = Simd::Fma(sum, Simd::Exp2NonPositive(Simd::Sub(highest, most)),
                    Simd::Pick(bits, power, Simd::Zero()));
    highest = most;
  }
  float Get() const {
    const float most = Simd::MaxLane(highest);
    const Simd::Vec scaled = Simd::Mul(
        sum, Simd::Exp2NonPositive(Simd::Sub(highest, Simd::Set(most))));
    return most + __builtin_log2f(Simd::Sum(scaled));
  }
};

// What the signs of one sentence's tokens say of kHeads heads: the logarithm of
// the sum over tokens of 2^(sum over d of +-weights[h][d]). The weights of a
// head lie head_dim apart.
template <int kHeads>
void ScoreSigns(const std::byte* signs, int64_t begin, int64_t end,
                const float* weights, int64_t head_dim, float* out) {
  LogSum logs[kHeads];
  // With every sign negative; a positive one adds its weight twice.
  float lowest[kHeads];
  for (int h = 0; h < kHeads; ++h) {
    lowest[h] = 0;
    for (int64_t d = 0; d < head_dim; ++d)
      lowest[h] -= weights[h * head_dim + d];
  }
  for (int64_t strip = begin / kPageTokens; strip * kPageTokens < end;
       ++strip) {
    const auto* above = reinterpret_cast<const uint16_t*>(
        signs + strip * SignStripBytes(head_dim));
    const uint32_t tokens = PageTokenBits(strip, begin, end);
    for (int64_t j = 0; j < kSignVectors; ++j) {
      const int64_t shift = j * Simd::kLanes;
      Simd::Vec sums[kHeads];
      SKV_UNROLL
      for (int h = 0; h < kHeads; ++h) sums[h] = Simd::Zero();
      for (int64_t d = 0; d < head_dim; ++d) {
        const uint32_t bits = static_cast<uint32_t>(above[d]) >> shift;
        SKV_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          sums[h] = Simd::Add(
              sums[h], Simd::Pick(bits, Simd::Set(weights[h * head_dim + d]),
                                  Simd::Zero()));
        }
      }
      for (int h = 0; h < kHeads; ++h) {
        const Simd::Vec score =
            Simd::Fma(Simd::Set(2.0f), sums[h], Simd::Set(lowest[h]));
        logs[h].Add(score, tokens >> shift);
      }
    }
  }
  for (int h = 0; h < kHeads; ++h) out[h] = logs[h].Get();
}

inline void ScoreSignsHeads(int64_t heads, const std::byte* signs,
                            int64_t begin, int64_t end, const float* weights,
                            int64_t head_dim, float* out) {
  switch (heads) {
    case 1:
      return ScoreSigns<1>(signs, begin, end, weights, head_dim, out);
    case 2:
      return ScoreSigns<2>(signs, begin, end, weights, head_dim, out);
    case 3:
      return ScoreSigns<3>(signs, begin, end, weights, head_dim, out);
    default:
      return ScoreSigns<4>(signs, begin, end, weights, head_dim, out);
  }
}

// Adds what the tokens' signs say to the scores of the means.
inline void AddSigns(const SentenceScoreItem& item, int64_t heads,
                     const float* q, int64_t head_dim, float factor,
                     float* weights, float* scores, int64_t stride) {
  for (int64_t e = 0; e < item.num_entries; ++e) {
    const std::byte* deviation =
        item.blocks +
        e / kBlockEntries * SentenceBlockBytes(item.kind, head_dim) +
        SentenceVectorBytes(head_dim);
    const int64_t slot = e % kBlockEntries;
    const float unit = factor * reinterpret_cast<const float*>(
                                    deviation + head_dim * kBlockEntries)[slot];
    for (int64_t d = 0; d < head_dim; ++d) {
      const float width = unit * static_cast<float>(static_cast<int8_t>(
                                     deviation[d * kBlockEntries + slot]));
      for (int64_t h = 0; h < heads; ++h) {
        weights[h * head_dim + d] = q[h * head_dim + d] * width;
      }
    }
    float logs[kScoreHeads];
    ScoreSignsHeads(heads, item.signs, e == 0 ? 0 : item.ends[e - 1],
                    item.ends[e], weights, head_dim, logs);
    for (int64_t h = 0; h < heads; ++h) scores[h * stride + e] += logs[h];
  }
}

}  // namespace
}  // namespace sentencekv
