// Scores of sentences for one row and KV head, in the Simd of the including
// file's level. Included only by vector_ops_LEVEL.cc.
#pragma once

#include "kernels/cpu/sentence_index.h"
#include "kernels/cpu/simd.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

// Query heads that go through a block together.
constexpr int64_t kScoreHeads = 4;
constexpr int64_t kBlockVectors = kBlockEntries / Simd::kLanes;

// scores[h][16] = (q[h] . vector of each entry) * factor, for kHeads heads.
template <int kHeads>
void ScoreBlock(const std::byte* block, const float* q, int64_t head_dim,
                float factor, float* scores, int64_t stride) {
  Simd::Vec sums[kHeads][kBlockVectors];
  for (auto& row : sums) {
    for (Simd::Vec& sum : row) sum = Simd::Zero();
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    SKV_UNROLL
    for (int64_t j = 0; j < kBlockVectors; ++j) {
      const Simd::Vec entry =
          Simd::LoadI8(block + d * kBlockEntries + j * Simd::kLanes);
      SKV_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        sums[h][j] =
            Simd::Fma(Simd::Set(q[h * head_dim + d]), entry, sums[h][j]);
      }
    }
  }
  const auto* units =
      reinterpret_cast<const float*>(block + head_dim * kBlockEntries);
  for (int64_t j = 0; j < kBlockVectors; ++j) {
    const Simd::Vec unit =
        Simd::Mul(Simd::Load(units + j * Simd::kLanes), Simd::Set(factor));
    for (int h = 0; h < kHeads; ++h) {
      Simd::Store(scores + h * stride + j * Simd::kLanes,
                  Simd::Mul(sums[h][j], unit));
    }
  }
}

inline void ScoreBlockHeads(int64_t heads, const std::byte* block,
                            const float* q, int64_t head_dim, float factor,
                            float* scores, int64_t stride) {
  switch (heads) {
    case 1:
      return ScoreBlock<1>(block, q, head_dim, factor, scores, stride);
    case 2:
      return ScoreBlock<2>(block, q, head_dim, factor, scores, stride);
    case 3:
      return ScoreBlock<3>(block, q, head_dim, factor, scores, stride);
    default:
      return ScoreBlock<4>(block, q, head_dim, factor, scores, stride);
  }
}

// Adds softmax(scores), in powers of two, to `out`; `padded` is a whole number
// of vectors.
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

void ScoreItem(const SentenceScoreItem& item, int64_t num_heads,
               int64_t head_dim, float scale, float* scratch) {
  const int64_t num_blocks = SentenceBlocks(item.num_entries);
  const int64_t padded = num_blocks * kBlockEntries;
  float* total = scratch;
  float* scores = scratch + padded;
  for (int64_t i = 0; i < padded; ++i) {
    total[i] =
        item.prior != nullptr && i < item.num_entries ? item.prior[i] : 0.0f;
  }
  for (int64_t h = 0; h < num_heads; h += kScoreHeads) {
    const int64_t heads =
        num_heads - h < kScoreHeads ? num_heads - h : kScoreHeads;
    for (int64_t b = 0; b < num_blocks; ++b) {
      ScoreBlockHeads(heads, item.blocks + b * SentenceBlockBytes(head_dim),
                      item.q + h * head_dim, head_dim, scale * kLog2E,
                      scores + b * kBlockEntries, padded);
    }
    for (int64_t i = 0; i < heads; ++i) {
      AddSoftmax(scores + i * padded, item.num_entries, padded, total);
    }
  }
  for (int64_t i = 0; i < item.num_entries; ++i) item.scores[i] = total[i];
}

}  // namespace
}  // namespace sentencekv
