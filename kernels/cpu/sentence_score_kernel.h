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

// scores[h][16] (+)= (q[h] . vector of each entry) * factor, for kHeads heads,
// whose queries lie `width` apart.
template <int kHeads>
void ScoreVector(const std::byte* vector, const float* q, int64_t head_dim,
                 int64_t width, float factor, bool add, float* scores,
                 int64_t stride) {
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
        sums[h][j] = Simd::Fma(Simd::Set(q[h * width + d]), entry, sums[h][j]);
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
                             const float* q, int64_t head_dim, int64_t width,
                             float factor, bool add, float* scores,
                             int64_t stride) {
  switch (heads) {
    case 1:
      return ScoreVector<1>(vector, q, head_dim, width, factor, add, scores,
                            stride);
    case 2:
      return ScoreVector<2>(vector, q, head_dim, width, factor, add, scores,
                            stride);
    case 3:
      return ScoreVector<3>(vector, q, head_dim, width, factor, add, scores,
                            stride);
    default:
      return ScoreVector<4>(vector, q, head_dim, width, factor, add, scores,
                            stride);
  }
}

// Adds to `out` the shares of the entries in the sum of weights x 2^exponents;
// without weights each counts once. `powers` is overwritten, and may be
// `exponents`. All have room for whole blocks, and what lies behind the last
// entry has a weight of 0.
inline void AddShares(const float* exponents, const float* weights,
                      int64_t count, float* powers, float* out) {
  const int64_t padded = SentenceBlocks(count) * kBlockEntries;
  if (powers != exponents) {
    for (int64_t i = 0; i < padded; i += Simd::kLanes) {
      Simd::Store(powers + i, Simd::Load(exponents + i));
    }
  }
  float inverse = ToPowers(powers, count);
  if (weights != nullptr) {
    Simd::Vec total = Simd::Zero();
    for (int64_t i = 0; i < count; i += Simd::kLanes) {
      const Simd::Vec power =
          Simd::Mul(Simd::Load(powers + i), Simd::Load(weights + i));
      Simd::Store(powers + i, power);
      total = Simd::Add(total, power);
    }
    inverse = 1.0f / Simd::Sum(total);
  }
  for (int64_t i = 0; i < count; i += Simd::kLanes) {
    Simd::Store(out + i, Simd::Fma(Simd::Load(powers + i), Simd::Set(inverse),
                                   Simd::Load(out + i)));
  }
}

// The queries that score, a head every `stride` floats: blended, when the item
// says so.
inline void BlendQueries(const SentenceScoreItem& item, int64_t num_heads,
                         int64_t head_dim, int64_t stride, float* queries) {
  const float of_mean = item.blend / static_cast<float>(item.num_summed + 1);
  for (int64_t h = 0; h < num_heads; ++h) {
    const float* const from = item.q + h * head_dim;
    float* const sum =
        item.query_sum == nullptr ? nullptr : item.query_sum + h * head_dim;
    float* const q = queries + h * stride;
    for (int64_t d = 0; d < head_dim; ++d) {
      q[d] = from[d];
      if (sum == nullptr) continue;
      sum[d] = (item.num_summed == 0 ? 0.0f : sum[d]) + from[d];
      q[d] = (1.0f - item.blend) * from[d] + of_mean * sum[d];
    }
    for (int64_t d = head_dim; d < stride; ++d) q[d] = 0;
  }
}

// One item's numbers. Arrays of entries have room for whole blocks.
struct ItemScores {
  const SentenceScoreItem& item;
  int64_t num_heads;
  int64_t head_dim;
  float factor;             // of a product of q and an entry, to be an exponent
  int64_t width;            // floats of a query: D and zeros
  int64_t padded;           // floats of an array of entries
  float* total;             // [entries]: the result, or that of a first look
  float* powers;            // [entries]
  float* queries;           // [heads][width]
  float* magnitudes;        // [kScoreHeads][width]
  SignQuery* sign_queries;  // [heads]
  std::byte* signs;         // [kScoreHeads][width] int8
  float* exponents;         // [heads][entries]
  float* weights;           // [heads][entries]: tokens, or a sum over them

  // The prior, to which shares are added.
  void BeginTotal() const {
    for (int64_t i = 0; i < padded; ++i) {
      total[i] = item.prior != nullptr && i < item.num_entries
                     ? item.prior_weight * item.prior[i]
                     : 0.0f;
    }
  }
  // The exponents that vectors of entries give.
  void ScoreVectors() const;
  // Of kSign: every token counts as if its key were the mean.
  void WeighByTokens() const;
  // From which bin of `total` on signs are looked at.
  uint32_t LowestRefinedBin() const;
  // Puts what the signs of its tokens say in place of their number.
  void AddSigns(int64_t entry) const;
  void AddAllShares(bool keep_exponents) const {
    for (int64_t h = 0; h < num_heads; ++h) {
      float* const from = exponents + h * padded;
      AddShares(from,
                item.kind == SentenceIndexKind::kSign ? weights + h * padded
                                                      : nullptr,
                item.num_entries, keep_exponents ? powers : from, total);
    }
  }
};

void ItemScores::ScoreVectors() const {
  const int64_t block_bytes = SentenceBlockBytes(item.kind, head_dim);
  for (int64_t h = 0; h < num_heads; h += kScoreHeads) {
    const int64_t heads =
        num_heads - h < kScoreHeads ? num_heads - h : kScoreHeads;
    const float* const q = queries + h * width;
    if (item.kind == SentenceIndexKind::kMinMax) {
      for (int64_t i = 0; i < heads * width; ++i) {
        magnitudes[i] = __builtin_fabsf(q[i]);
      }
    }
    for (int64_t b = 0; b < padded / kBlockEntries; ++b) {
      const std::byte* block = item.blocks + b * block_bytes;
      float* const out = exponents + h * padded + b * kBlockEntries;
      ScoreVectorHeads(heads, block, q, head_dim, width, factor,
                       /*add=*/false, out, padded);
      if (item.kind != SentenceIndexKind::kMinMax) continue;
      ScoreVectorHeads(heads, block + SentenceVectorBytes(head_dim), magnitudes,
                       head_dim, width, factor, /*add=*/true, out, padded);
    }
  }
}

void ItemScores::WeighByTokens() const {
  int32_t begin = 0;
  for (int64_t e = 0; e < item.num_entries; ++e) {
    weights[e] = static_cast<float>(item.ends[e] - begin);
    begin = item.ends[e];
  }
  for (int64_t e = item.num_entries; e < padded; ++e) weights[e] = 0;
  for (int64_t h = 1; h < num_heads; ++h) {
    __builtin_memcpy(weights + h * padded, weights,
                     static_cast<size_t>(padded) * sizeof(float));
  }
}

uint32_t ItemScores::LowestRefinedBin() const {
  int32_t tokens[kScoreBins] = {};
  for (int64_t e = 0; e < item.num_entries; ++e) {
    tokens[ScoreBin(total[e])] += static_cast<int32_t>(weights[e]);
  }
  uint32_t lowest = kScoreBins;
  for (int64_t left = item.num_refined; lowest > 0 && left > 0;) {
    left -= tokens[--lowest];
  }
  return lowest;
}

void ItemScores::AddSigns(int64_t entry) const {
  const std::byte* const deviations =
      item.blocks +
      entry / kBlockEntries * SentenceBlockBytes(item.kind, head_dim) +
      SentenceVectorBytes(head_dim);
  const int64_t slot = entry % kBlockEntries;
  const float unit = reinterpret_cast<const float*>(
      deviations + head_dim * kBlockEntries)[slot];
  for (int64_t h = 0; h < num_heads; h += kScoreHeads) {
    const int64_t heads =
        num_heads - h < kScoreHeads ? num_heads - h : kScoreHeads;
    SignWeights weighed[kScoreHeads];
    for (int64_t i = 0; i < heads; ++i) {
      weighed[i] = WeighSigns(sign_queries[h + i], deviations + slot * head_dim,
                              unit * factor, width, signs + i * width);
    }
    PowerSum sums[kScoreHeads];
    SumSignsOfHeads(heads, item.signs, entry == 0 ? 0 : item.ends[entry - 1],
                    item.ends[entry], weighed, head_dim, sums);
    for (int64_t i = 0; i < heads; ++i) {
      exponents[(h + i) * padded + entry] += sums[i].highest;
      weights[(h + i) * padded + entry] = sums[i].sum;
    }
  }
}

void ScoreItem(const SentenceScoreItem& item, int64_t num_heads,
               int64_t head_dim, float scale, float* scratch) {
  const int64_t padded = SentenceBlocks(item.num_entries) * kBlockEntries;
  const int64_t width = QueryWidth(head_dim);
  const auto take = [&scratch](int64_t count) {
    float* const taken = scratch;
    scratch += count;
    return taken;
  };
  const ItemScores scores = {
      .item = item,
      .num_heads = num_heads,
      .head_dim = head_dim,
      .factor = scale * kLog2E,
      .width = width,
      .padded = padded,
      .total = take(padded),
      .powers = take(padded),
      .queries = take(num_heads * width),
      .magnitudes = take(kScoreHeads * width),
      .sign_queries = reinterpret_cast<SignQuery*>(take(4 * num_heads)),
      .signs = reinterpret_cast<std::byte*>(take(width)),
      .exponents = take(num_heads * padded),
      .weights = take(num_heads * padded),
  };
  BlendQueries(item, num_heads, head_dim, width, scores.queries);
  scores.ScoreVectors();
  if (item.kind == SentenceIndexKind::kSign) {
    auto* const rounded = reinterpret_cast<int16_t*>(take(num_heads * width));
    for (int64_t h = 0; h < num_heads; ++h) {
      scores.sign_queries[h] =
          RoundQuery(scores.queries + h * width, width, rounded + h * width);
    }
    scores.WeighByTokens();
    uint32_t lowest = 0;
    scores.BeginTotal();
    if (item.num_refined > 0) {
      scores.AddAllShares(/*keep_exponents=*/true);
      lowest = scores.LowestRefinedBin();
    }
    for (int64_t e = 0; e < item.num_entries; ++e) {
      if (ScoreBin(scores.total[e]) >= lowest) scores.AddSigns(e);
    }
  }
  scores.BeginTotal();
  scores.AddAllShares(/*keep_exponents=*/false);
  for (int64_t e = 0; e < item.num_entries; ++e) {
    item.scores[e] = scores.total[e];
  }
}

}  // namespace
}  // namespace sentencekv
