// Attention mass of one query head, in the Simd of the including file's level.
// Included only by sentences_LEVEL.cc.
#pragma once

#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/softmax_kernel.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Queries that go through a page of keys together: their sums stay in
// registers.
constexpr int kMassQueries = Simd::kLanes == 16 ? 8 : 4;

// scores[i][16] = (q[i] . key) * factor for the keys of one page. Queries lie
// q_stride apart, rows of scores `stride`.
template <DType kType, int kQueries>
void ScorePage(const std::byte* keys, const float* q, int64_t q_stride,
               int64_t head_dim, float factor, float* scores, int64_t stride) {
  constexpr int64_t kVectors = kPageTokens / Simd::kLanes;
  Simd::Vec sums[kQueries][kVectors];
  for (auto& row : sums) {
    for (Simd::Vec& sum : row) sum = Simd::Zero();
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    SKV_UNROLL
    for (int64_t j = 0; j < kVectors; ++j) {
      const Simd::Vec key = LoadAs<kType>(
          keys + (d * kPageTokens + j * Simd::kLanes) * SizeOf(kType));
      SKV_UNROLL
      for (int i = 0; i < kQueries; ++i) {
        sums[i][j] = Simd::Fma(Simd::Set(q[i * q_stride + d]), key, sums[i][j]);
      }
    }
  }
  for (int i = 0; i < kQueries; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) {
      Simd::Store(scores + i * stride + j * Simd::kLanes,
                  Simd::Mul(sums[i][j], Simd::Set(factor)));
    }
  }
}

// out[p] += softmax(scores)[p] over the first num_visible keys; scores, to
// whole pages, are exponents of two.
inline void AddVisible(float* scores, int64_t num_visible, float* out) {
  constexpr int64_t kLanes = Simd::kLanes;
  const int64_t whole = num_visible / kLanes * kLanes;
  const float inverse = ToPowers(scores, num_visible);
  for (int64_t p = 0; p < whole; p += kLanes) {
    Simd::Store(out + p, Simd::Fma(Simd::Load(scores + p), Simd::Set(inverse),
                                   Simd::Load(out + p)));
  }
  for (int64_t p = whole; p < num_visible; ++p) out[p] += scores[p] * inverse;
}

template <DType kType>
void AddMassAs(const AttentionMassParams& params, int64_t head, int64_t block,
               float* scores) {
  const KvLayout& layout = params.kv.layout;
  const int64_t head_dim = layout.head_dim;
  const int64_t kv_head = head / (params.num_heads / layout.num_kv_heads);
  const int64_t num_keys = params.first_position + params.num_queries;
  const int64_t num_pages = (num_keys + kPageTokens - 1) / kPageTokens;
  const int64_t stride = num_pages * kPageTokens;
  const int64_t q_stride = params.num_heads * head_dim;
  const float factor = params.scale * kLog2E;
  float* const out = params.out + head * num_keys;
  for (int64_t p = 0; p < num_keys; ++p) out[p] = 0;
  for (int64_t begin = 0; begin < params.num_queries; begin += block) {
    const int64_t left = params.num_queries - begin;
    const int64_t count = left < block ? left : block;
    const float* q = params.queries + begin * q_stride + head * head_dim;
    for (int64_t page = 0; page < num_pages; ++page) {
      const std::byte* keys = params.kv.head(params.pages[page], kv_head);
      float* const to = scores + page * kPageTokens;
      int64_t i = 0;
      for (; i + kMassQueries <= count; i += kMassQueries) {
        ScorePage<kType, kMassQueries>(keys, q + i * q_stride, q_stride,
                                       head_dim, factor, to + i * stride,
                                       stride);
      }
      for (; i < count; ++i) {
        ScorePage<kType, 1>(keys, q + i * q_stride, q_stride, head_dim, factor,
                            to + i * stride, stride);
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      AddVisible(scores + i * stride, params.first_position + begin + i + 1,
                 out);
    }
  }
}

void AddMass(const AttentionMassParams& params, int64_t head, int64_t block,
             float* scratch) {
  switch (params.kv.layout.dtype) {
    case DType::kF16:
      return AddMassAs<DType::kF16>(params, head, block, scratch);
    case DType::kBF16:
      return AddMassAs<DType::kBF16>(params, head, block, scratch);
    case DType::kF32:
      return AddMassAs<DType::kF32>(params, head, block, scratch);
  }
}

}  // namespace
}  // namespace sentencekv
