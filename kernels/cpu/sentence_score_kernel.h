// Scores of sentences for one row and KV head, in the Simd of the including
// file's level. Included only by sentences_LEVEL.cc. Scores are exponents of
// two.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/sentence_sign_kernel.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/softmax_kernel.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

constexpr int64_t kBlockVectors = kBlockEntries / Simd::kLanes;
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

// Adds softmax(scores) to `out`; both have room for whole vectors.
inline void AddSoftmax(float* scores, int64_t count, float* out) {
  const Simd::Vec inverse = Simd::Set(ToPowers(scores, count));
  for (int64_t i = 0; i < count; i += Simd::kLanes) {
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
    total[i] = item.prior != nullptr && i < item.num_entries
                   ? item.prior_weight * item.prior[i]
                   : 0.0f;
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
      AddSoftmax(scores + i * padded, item.num_entries, total);
    }
  }
  for (int64_t i = 0; i < item.num_entries; ++i) item.scores[i] = total[i];
}

}  // namespace
}  // namespace sentencekv
