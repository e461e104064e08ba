// Scores of the sentences of one row for one KV head: the exponents that
// vectors of entries give, and shares in their powers. Device code, for .cu
// files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/entry_block.h"
#include "kernels/score_bins.h"

namespace sentencekv {

// Query heads that go through an entry together.
inline constexpr int kHeadsTogether = 4;

// The query that scores: (1 - blend) q + blend x the mean of the queries since
// num_summed was 0.
struct BlendedQuery {
  const float* q = nullptr;    // [heads, D]
  float* query_sum = nullptr;  // [heads, D], without q; null: no blend
  int64_t num_summed = 0;
  float blend = 0;

  __device__ __forceinline__ float Sum(int64_t i) const {
    return (num_summed == 0 ? 0.0f : query_sum[i]) + q[i];
  }
  __device__ __forceinline__ float At(int64_t i) const {
    if (query_sum == nullptr) return q[i];
    const float of_mean = blend / static_cast<float>(num_summed + 1);
    return fmaf(of_mean, Sum(i), (1.0f - blend) * q[i]);
  }
};

struct SentenceScoring {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  BlendedQuery query;
  const std::byte* blocks = nullptr;
  const std::byte* signs = nullptr;  // of kSign, as what follows
  const int32_t* ends = nullptr;
  int64_t num_refined = 0;
  int64_t num_entries = 0;
  const float* prior = nullptr;  // [num_prior]; entries behind it have 0
  int64_t num_prior = 0;
  float prior_weight = 0;
  int64_t num_heads = 0;  // query heads of the KV head
  int64_t head_dim = 0;
  float factor = 0;  // scale log2(e)
  // [heads + 1][num_entries], of two; in the last row a first look's scores.
  float* exponents = nullptr;
  int64_t head_stride = 0;  // from one head's exponents to the next's

  __device__ __forceinline__ int64_t Begin(int64_t entry) const {
    return entry == 0 ? 0 : ends[entry - 1];
  }

  __device__ __forceinline__ float* ExponentsOf(int64_t head) const {
    return exponents + head * head_stride;
  }
  // Of those that go together, `head` being the first.
  __device__ __forceinline__ int HeadsFrom(int64_t head) const {
    const int64_t left = num_heads - head;
    return left < kHeadsTogether ? static_cast<int>(left) : kHeadsTogether;
  }
};

// sums[h] += q[h] . entry, or |q[h]| . entry, for kHeadsTogether heads of [D],
// in the order of dimensions.
template <bool kMagnitudes>
__device__ __forceinline__ void AddProducts(const std::byte* vector,
                                            int64_t slot, const float* q,
                                            int64_t head_dim,
                                            float (&sums)[kHeadsTogether]) {
  const auto* elements = reinterpret_cast<const int8_t*>(vector);
  for (int64_t d = 0; d < head_dim; d += kEntryRun) {
    const Vector<int8_t, kEntryRun> entry =
        LoadVector<int8_t, kEntryRun>(elements + EntryElement(slot, d));
#pragma unroll
    for (int h = 0; h < kHeadsTogether; ++h) {
#pragma unroll
      for (int i = 0; i < kEntryRun; i += 4) {
        const Vector<float, 4> x = LoadVector<float>(q + h * head_dim + d + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sums[h] = fmaf(kMagnitudes ? fabsf(x[j]) : x[j],
                         static_cast<float>(entry[i + j]), sums[h]);
        }
      }
    }
  }
}

// Writes the exponents that an entry's vectors give to the heads from `head`
// on; `q` is theirs, [kHeadsTogether, D].
__device__ __forceinline__ void ScoreEntry(const SentenceScoring& scoring,
                                           int64_t entry, int64_t head,
                                           const float* q) {
  const int64_t head_dim = scoring.head_dim;
  const int64_t slot = entry % kBlockEntries;
  const std::byte* const vector =
      scoring.blocks + EntryBlockOffset(scoring.kind, entry, head_dim);
  float sums[kHeadsTogether] = {};
  AddProducts<false>(vector, slot, q, head_dim, sums);
  float unit = EntryUnit(vector, slot, head_dim) * scoring.factor;
  float exponents[kHeadsTogether];
  for (int h = 0; h < kHeadsTogether; ++h) exponents[h] = sums[h] * unit;
  if (scoring.kind == SentenceIndexKind::kMinMax) {
    const std::byte* const half = vector + EntryVectorBytes(head_dim);
    float widths[kHeadsTogether] = {};
    AddProducts<true>(half, slot, q, head_dim, widths);
    unit = EntryUnit(half, slot, head_dim) * scoring.factor;
    for (int h = 0; h < kHeadsTogether; ++h) {
      exponents[h] = fmaf(widths[h], unit, exponents[h]);
    }
  }
  const int heads = scoring.HeadsFrom(head);
#pragma unroll
  for (int h = 0; h < kHeadsTogether; ++h) {
    if (h < heads) scoring.ExponentsOf(head + h)[entry] = exponents[h];
  }
}

// What the vectors of entries give: entry `first` and every stride-th after it,
// a thread an entry. `q` is shared memory, [kHeadsTogether, D]. All threads of
// the block call, whether they have an entry or not.
__device__ __forceinline__ void ScoreVectors(const SentenceScoring& scoring,
                                             int64_t first, int64_t stride,
                                             float* q) {
  const int64_t head_dim = scoring.head_dim;
  for (int64_t head = 0; head < scoring.num_heads; head += kHeadsTogether) {
    const int64_t size = scoring.HeadsFrom(head) * head_dim;
    __syncthreads();  // the readers of the heads before are done
    for (int64_t i = threadIdx.x; i < kHeadsTogether * head_dim;
         i += blockDim.x) {
      q[i] = i < size ? scoring.query.At(head * head_dim + i) : 0.0f;
    }
    __syncthreads();
    for (int64_t entry = first; entry < scoring.num_entries; entry += stride) {
      ScoreEntry(scoring, entry, head, q);
    }
  }
}

// What a head's exponents are shares of.
struct HeadShare {
  float highest;  // exponent
  float inverse;  // of the sum of powers relative to it
};

// What FinishScores needs of a block's shared memory.
struct ScoringMemory {
  HeadShare* shares;     // [heads]
  unsigned* bin_tokens;  // [kScoreBins]
  unsigned* lowest_bin;
  int8_t* weights;  // [warps][kHeadsTogether][D]
};

__host__ __device__ constexpr int64_t ScoringMemoryBytes(int64_t num_heads,
                                                         int64_t head_dim,
                                                         int64_t num_warps) {
  return (num_heads + 1) / 2 * 2 * static_cast<int64_t>(sizeof(HeadShare)) +
         static_cast<int64_t>(kScoreBins * sizeof(unsigned)) + 16 +
         num_warps * kHeadsTogether * head_dim;
}

// `memory` is aligned to 16 bytes.
__device__ __forceinline__ ScoringMemory PlanScoring(unsigned char* memory,
                                                     int64_t num_heads) {
  auto* const shares = reinterpret_cast<HeadShare*>(memory);
  auto* const bins =
      reinterpret_cast<unsigned*>(shares + (num_heads + 1) / 2 * 2);
  return {shares, bins, bins + kScoreBins,
          reinterpret_cast<int8_t*>(bins + kScoreBins + 4)};
}

// All threads of the block call.
__device__ __forceinline__ void FindShares(const SentenceScoring& scoring,
                                           HeadShare* shares) {
  for (int64_t head = 0; head < scoring.num_heads; ++head) {
    const float* const exponents = scoring.ExponentsOf(head);
    float highest = -INFINITY;
    for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
      highest = fmaxf(highest, exponents[e]);
    }
    highest = BlockMax(highest);
    float sum = 0;
    for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
      sum += exp2f(exponents[e] - highest);
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) shares[head] = {highest, 1.0f / sum};
  }
  __syncthreads();
}

__device__ __forceinline__ float ScoreOf(const SentenceScoring& scoring,
                                         const HeadShare* shares,
                                         int64_t entry) {
  float score = entry < scoring.num_prior
                    ? scoring.prior_weight * scoring.prior[entry]
                    : 0.0f;
  for (int64_t head = 0; head < scoring.num_heads; ++head) {
    const HeadShare share = shares[head];
    score = fmaf(exp2f(scoring.ExponentsOf(head)[entry] - share.highest),
                 share.inverse, score);
  }
  return score;
}

}  // namespace sentencekv
