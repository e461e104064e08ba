// Scores of the sentences of one row for one KV head: what the kernels of
// sentence_score_kernels.h and score_rows_kernels.h share. Device code, for .cu
// files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/entry_block.h"
#include "kernels/cuda/token_block.h"

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
  const std::byte* signs = nullptr;  // of kSign
  const int32_t* ends = nullptr;     // of kSign
  int64_t num_entries = 0;
  const float* prior = nullptr;  // [num_prior]; entries behind it have 0
  int64_t num_prior = 0;
  float prior_weight = 0;
  int64_t num_heads = 0;  // query heads of the KV head
  int64_t head_dim = 0;
  float factor = 0;            // scale log2(e)
  float* exponents = nullptr;  // [heads][num_entries], of two
  int64_t head_stride = 0;     // from one head's exponents to the next's

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

// Logarithm of a sum of powers of two.
struct LogSum {
  float highest = kLowestScore;
  float sum = 0;

  // Adds 2^x of the lanes that have one. All lanes of the warp call.
  __device__ void Add(float x, bool has_one) {
    const float most = fmaxf(highest, WarpMax(has_one ? x : kLowestScore));
    const float added = WarpSum(has_one ? exp2f(x - most) : 0.0f);
    sum = fmaf(sum, exp2f(highest - most), added);
    highest = most;
  }
  __device__ float Get() const { return highest + log2f(sum); }
};

// sums[h] = sum over d of weights[h][d] with the sign of a token.
__device__ __forceinline__ void AddSigned(const std::byte* strip, int token,
                                          const float* weights,
                                          int64_t head_dim,
                                          float (&sums)[kHeadsTogether]) {
  const auto* words = reinterpret_cast<const uint16_t*>(strip);
  for (int64_t d = 0; d < head_dim; d += 8) {
    const Vector<uint16_t, 8> above = LoadVector<uint16_t>(words + d);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool is_above = (above[i] >> token & 1) != 0;
#pragma unroll
      for (int h = 0; h < kHeadsTogether; ++h) {
        const float weight = weights[h * head_dim + d + i];
        sums[h] += is_above ? weight : -weight;
      }
    }
  }
}

// Adds what the signs of an entry's tokens give, a lane a token. `weights` is
// the warp's shared memory, [kHeadsTogether, D]. All lanes of the warp call.
__device__ __forceinline__ void AddSigns(const SentenceScoring& scoring,
                                         int64_t entry, float* weights) {
  const int64_t head_dim = scoring.head_dim;
  const std::byte* const deviation =
      scoring.blocks + EntryBlockOffset(scoring.kind, entry, head_dim) +
      EntryVectorBytes(head_dim);
  const int64_t slot = entry % kBlockEntries;
  const float unit = EntryUnit(deviation, slot, head_dim) * scoring.factor;
  const int64_t begin = entry == 0 ? 0 : scoring.ends[entry - 1];
  const int64_t end = scoring.ends[entry];
  for (int64_t head = 0; head < scoring.num_heads; head += kHeadsTogether) {
    const int heads = scoring.HeadsFrom(head);
    __syncwarp();  // the readers of the heads before are done
    for (int64_t d = LaneId(); d < head_dim; d += kWarpSize) {
      const auto element =
          static_cast<int8_t>(deviation[EntryElement(slot, d)]);
      const float width = unit * static_cast<float>(element);
      for (int h = 0; h < kHeadsTogether; ++h) {
        weights[h * head_dim + d] =
            h < heads ? scoring.query.At((head + h) * head_dim + d) * width : 0;
      }
    }
    __syncwarp();
    LogSum logs[kHeadsTogether];
    for (int64_t from = begin; from < end; from += kWarpSize) {
      const int64_t position = from + LaneId();
      float sums[kHeadsTogether] = {};
      if (position < end) {
        AddSigned(scoring.signs + position / kPageTokens * StripBytes(head_dim),
                  static_cast<int>(position % kPageTokens), weights, head_dim,
                  sums);
      }
      __syncwarp();
#pragma unroll
      for (int h = 0; h < kHeadsTogether; ++h) {
        logs[h].Add(sums[h], position < end);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeadsTogether; ++h) {
      if (LaneId() == 0 && h < heads) {
        scoring.ExponentsOf(head + h)[entry] += logs[h].Get();
      }
    }
  }
}

// Exponents become powers; then each entry adds up its shares: `scores` may be
// the exponents of the first head. `inverses` is shared memory, [heads]. The
// sum of queries gets this one, now that nobody reads it any more. All threads
// of the block call.
__device__ __forceinline__ void FinishScores(const SentenceScoring& scoring,
                                             float* inverses, float* scores) {
  for (int64_t head = 0; head < scoring.num_heads; ++head) {
    float* const exponents = scoring.ExponentsOf(head);
    float highest = -INFINITY;
    for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
      highest = fmaxf(highest, exponents[e]);
    }
    highest = BlockMax(highest);
    float sum = 0;
    for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
      const float power = exp2f(exponents[e] - highest);
      exponents[e] = power;
      sum += power;
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) inverses[head] = 1.0f / sum;
  }
  __syncthreads();
  for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
    float total =
        e < scoring.num_prior ? scoring.prior_weight * scoring.prior[e] : 0.0f;
    for (int64_t head = 0; head < scoring.num_heads; ++head) {
      total = fmaf(scoring.ExponentsOf(head)[e], inverses[head], total);
    }
    scores[e] = total;
  }
  const BlendedQuery& query = scoring.query;
  const int64_t num_summands =
      query.query_sum == nullptr ? 0 : scoring.num_heads * scoring.head_dim;
  for (int64_t i = threadIdx.x; i < num_summands; i += blockDim.x) {
    query.query_sum[i] = query.Sum(i);
  }
}

}  // namespace sentencekv
