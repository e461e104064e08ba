// Scores of sentences for one row and KV head, in the Simd of the including
// file's level. Included only by sentences_LEVEL.cc. Scores are exponents of
// two.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

constexpr int64_t kBlockVectors = kBlockEntries / Simd::kLanes;
// Lower than any score, and yet a number.
constexpr float kLowestScore = -1e30f;

// scores[h][16] (+)= (q[h] . vector of each entry) * factor, for kHeads heads.
template <int kHeads>
void ScoreVector(const std::byte* vector, const float* q, int64_t head_dim,
                 float factor, bool add, float* scores, int64_t stride) {
  Simd::Vec sums[kHeads][kBlockVectors];
  for (auto& row : sums) {
    for (Simd::Vec& sum : row) sum = Simd::Zero();
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    SKV_UNROLL
    for (int64_t j = 0; j < kBlockVectors; ++j) {
      const Simd::Vec entry =
          Simd::LoadI8(vector + d * kBlockEntries + j * Simd::kLanes);
      SKV_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        sums[h][j] =
            Simd::Fma(Simd::Set(q[h * head_dim + d]), entry, sums[h][j]);
      }
    }
  }
  const auto* units =
      reinterpret_cast<const float*>(vector + head_dim * kBlockEntries);
  for (int64_t j = 0; j < kBlockVectors; ++j) {
    const Simd::Vec unit =
        Simd::Mul(Simd::Load(units + j * Simd::kLanes), Simd::Set(factor));
    for (int h = 0; h < kHeads; ++h) {
      float* const out = scores + h * stride + j * Simd::kLanes;
      Simd::Store(out, Simd::Fma(sums[h][j], unit,
                                 add ? Simd::Load(out) : Simd::Zero()));
    }
  }
}

inline void ScoreVectorHeads(int64_t heads, const std::byte* vector,
                             const float* q, int64_t head_dim, float factor,
                             bool add, float* scores, int64_t stride) {
  switch (heads) {
    case 1:
      return ScoreVector<1>(vector, q, head_dim, factor, add, scores, stride);
    case 2:
      return ScoreVector<2>(vector, q, head_dim, factor, add, scores, stride);
    case 3:
      return ScoreVector<3>(vector, q, head_dim, factor, add, scores, stride);
    default:
      return ScoreVector<4>(vector, q, head_dim, factor, add, scores, stride);
  }
}

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
    const int64_t first = begin - strip * kPageTokens;
    const int64_t last = end - strip * kPageTokens;
    const uint32_t below_end =
        last < kPageTokens ? (1u << last) - 1 : (1u << kPageTokens) - 1;
    const uint32_t below_begin = first > 0 ? (1u << first) - 1 : 0;
    const uint32_t tokens = below_end & ~below_begin;
    for (int64_t j = 0; j < kBlockVectors; ++j) {
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

// Adds softmax(scores) to `out`; `padded` is a whole number of vectors.
inline void AddSoftmax(float* scores, int64_t count, int64_t padded,
                       float* out) {
  for (int64_t i = count; i < padded; ++i) scores[i] = -__builtin_inff();
  Simd::Vec highest = Simd::Load(scores);
  for (int64_t i = Simd::kLanes; i < padded; i += Simd::kLanes) {
    highest = Simd::Max(highest, Simd::Load(scores + i));
  }
  const Simd::Vec maximum = Simd::Set(Simd::MaxLane(highest));
  Simd::Vec total = Simd::Zero();
  for (int64_t i = 0; i < padded; i += Simd::kLanes) {
    const Simd::Vec p =
        Simd::Exp2NonPositive(Simd::Sub(Simd::Load(scores + i), maximum));
    Simd::Store(scores + i, p);
    total = Simd::Add(total, p);
  }
  const Simd::Vec inverse = Simd::Set(1.0f / Simd::Sum(total));
  for (int64_t i = 0; i < padded; i += Simd::kLanes) {
    Simd::Store(out + i, Simd::Fma(Simd::Load(scores + i), inverse,
                                   Simd::Load(out + i)));
  }
}

// The queries that score: blended, when the item says so.
inline void BlendQueries(const SentenceScoreItem& item, int64_t count,
                         float* q) {
  if (item.query_sum == nullptr) {
    for (int64_t i = 0; i < count; ++i) q[i] = item.q[i];
    return;
  }
  const float of_mean = item.blend / static_cast<float>(item.num_summed + 1);
  for (int64_t i = 0; i < count; ++i) {
    const float before = item.num_summed == 0 ? 0.0f : item.query_sum[i];
    item.query_sum[i] = before + item.q[i];
    q[i] = (1.0f - item.blend) * item.q[i] + of_mean * item.query_sum[i];
  }
}

void ScoreItem(const SentenceScoreItem& item, int64_t num_heads,
               int64_t head_dim, float scale, float* scratch) {
  const int64_t num_blocks = SentenceBlocks(item.num_entries);
  const int64_t padded = num_blocks * kBlockEntries;
  const int64_t block_bytes = SentenceBlockBytes(item.kind, head_dim);
  const int64_t width = num_heads * head_dim;
  const float factor = scale * kLog2E;
  float* const total = scratch;
  float* const scores = total + padded;
  float* const q = scores + kScoreHeads * padded;
  float* const magnitudes = q + width;
  float* const weights = magnitudes + width;
  for (int64_t i = 0; i < padded; ++i) {
    total[i] =
        item.prior != nullptr && i < item.num_entries ? item.prior[i] : 0.0f;
  }
  BlendQueries(item, width, q);
  for (int64_t i = 0; i < width; ++i) magnitudes[i] = __builtin_fabsf(q[i]);
  for (int64_t h = 0; h < num_heads; h += kScoreHeads) {
    const int64_t heads =
        num_heads - h < kScoreHeads ? num_heads - h : kScoreHeads;
    for (int64_t b = 0; b < num_blocks; ++b) {
      const std::byte* block = item.blocks + b * block_bytes;
      float* const out = scores + b * kBlockEntries;
      ScoreVectorHeads(heads, block, q + h * head_dim, head_dim, factor,
                       /*add=*/false, out, padded);
      if (item.kind != SentenceIndexKind::kMinMax) continue;
      ScoreVectorHeads(heads, block + SentenceVectorBytes(head_dim),
                       magnitudes + h * head_dim, head_dim, factor,
                       /*add=*/true, out, padded);
    }
    if (item.kind == SentenceIndexKind::kSign) {
      AddSigns(item, heads, q + h * head_dim, head_dim, factor, weights, scores,
               padded);
    }
    for (int64_t i = 0; i < heads; ++i) {
      AddSoftmax(scores + i * padded, item.num_entries, padded, total);
    }
  }
  for (int64_t i = 0; i < item.num_entries; ++i) item.scores[i] = total[i];
}

}  // namespace
}  // namespace sentencekv
