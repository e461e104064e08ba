// What the signs of tokens add to the scores of sentences: kSign, as
// SentenceScoreItem has it. Device code, for .cu files.
//
// The signs of a token are one bit a dimension, its exponent the sum of whole
// numbers with those signs; so it has the same bits as on the CPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/entry_block.h"
#include "kernels/cuda/sentence_scoring.h"
#include "kernels/cuda/token_block.h"
#include "kernels/score_bins.h"
#include "kernels/sentence_params.h"

namespace sentencekv {

// Where the weight of dimension d lies among a head's: two dimensions of 16
// bits side by side, shifted by the token, give the bytes 0 and 2 of four.
__device__ __forceinline__ int64_t WeightPlace(int64_t d) {
  const int64_t in_four = d % 4;
  return d - in_four + (in_four == 1 ? 2 : in_four == 2 ? 1 : in_four);
}

// The weights of one query head for one entry.
struct SignWeights {
  float unit = 0;   // what they are in units of
  float total = 0;  // their sum
};

// Writes round(q[d] deviation[d]) to `weights`, [D]; the largest q[d] is
// 32767 / 32768. All lanes of the warp call.
__device__ __forceinline__ SignWeights
WeighSigns(const SentenceScoring& scoring, int64_t head,
           const std::byte* deviation, int64_t slot, int8_t* weights) {
  const int64_t head_dim = scoring.head_dim;
  const int64_t first = head * head_dim;
  float most = 0;
  for (int64_t d = LaneId(); d < head_dim; d += kWarpSize) {
    most = fmaxf(most, fabsf(scoring.query.At(first + d)));
  }
  most = WarpMax(most);
  const float inverse = most > 0 ? 32767.0f / most : 0.0f;
  float total = 0;
  for (int64_t d = LaneId(); d < head_dim; d += kWarpSize) {
    const int q =
        static_cast<int>(rintf(scoring.query.At(first + d) * inverse));
    const int element = static_cast<int8_t>(deviation[EntryElement(slot, d)]);
    const int weight = (q * element + (1 << 14)) >> 15;
    weights[WeightPlace(d)] = static_cast<int8_t>(weight);
    total += static_cast<float>(weight);
  }
  const float unit = EntryUnit(deviation, slot, head_dim) * scoring.factor;
  return {most / 32767.0f * 32768.0f * unit, WarpSum(total)};
}

// dots[h] = sum of the weights of the dimensions whose bit a token has set.
__device__ __forceinline__ void AddDots(const std::byte* strip, int token,
                                        const int8_t* weights, int64_t head_dim,
                                        int (&dots)[kHeadsTogether]) {
  constexpr unsigned kLowBits = 0x00010001;
  const auto* words = reinterpret_cast<const unsigned*>(strip);
  for (int64_t d = 0; d < head_dim; d += 8) {
    const Vector<unsigned, 4> pairs = LoadVector(words + d / 2);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned four = (pairs[2 * i] >> token & kLowBits) |
                            (pairs[2 * i + 1] >> token & kLowBits) << 8;
#pragma unroll
      for (int h = 0; h < kHeadsTogether; ++h) {
        const int weight =
            *reinterpret_cast<const int*>(weights + h * head_dim + d + 4 * i);
        dots[h] = __dp4a(static_cast<int>(four), weight, dots[h]);
      }
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

// Puts what the signs of an entry's tokens say in place of the logarithm of
// their number, a lane a token. `weights` is the warp's shared memory,
// [kHeadsTogether, D]. All lanes of the warp call.
__device__ __forceinline__ void AddSigns(const SentenceScoring& scoring,
                                         int64_t entry, int8_t* weights) {
  const int64_t head_dim = scoring.head_dim;
  const std::byte* const deviation =
      scoring.blocks + EntryBlockOffset(scoring.kind, entry, head_dim) +
      EntryVectorBytes(head_dim);
  const int64_t begin = scoring.Begin(entry);
  const int64_t end = scoring.ends[entry];
  const float counted = log2f(static_cast<float>(end - begin));
  for (int64_t head = 0; head < scoring.num_heads; head += kHeadsTogether) {
    const int heads = scoring.HeadsFrom(head);
    SignWeights weighed[kHeadsTogether];
    __syncwarp();  // the readers of the heads before are done
#pragma unroll
    for (int h = 0; h < kHeadsTogether; ++h) {
      int8_t* const of_head = weights + h * head_dim;
      if (h < heads) {
        weighed[h] = WeighSigns(scoring, head + h, deviation,
                                entry % kBlockEntries, of_head);
        continue;
      }
      for (int64_t d = LaneId(); d < head_dim; d += kWarpSize) of_head[d] = 0;
    }
    __syncwarp();
    LogSum logs[kHeadsTogether];
    for (int64_t from = begin; from < end; from += kWarpSize) {
      const int64_t position = from + LaneId();
      int dots[kHeadsTogether] = {};
      if (position < end) {
        AddDots(scoring.signs + position / kPageTokens * StripBytes(head_dim),
                static_cast<int>(position % kPageTokens), weights, head_dim,
                dots);
      }
      __syncwarp();
#pragma unroll
      for (int h = 0; h < kHeadsTogether; ++h) {
        // A dimension above its mean counts once, below it minus once.
        const float x = fmaf(static_cast<float>(dots[h]), 2 * weighed[h].unit,
                             -weighed[h].unit * weighed[h].total);
        logs[h].Add(x, position < end);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeadsTogether; ++h) {
      if (LaneId() == 0 && h < heads) {
        scoring.ExponentsOf(head + h)[entry] += logs[h].Get() - counted;
      }
    }
  }
}

__device__ __forceinline__ unsigned ScoreBinOf(float score) {
  const unsigned bits = __float_as_uint(score);
  return bits >> 31 != 0 ? 0 : bits >> 21;
}

// From which bin on signs are looked at; `tokens`, [kScoreBins], are those of
// the sentences in each. One warp calls, and its first lane writes.
__device__ __forceinline__ void FindLowestBin(const SentenceScoring& scoring,
                                              const unsigned* tokens,
                                              unsigned* lowest_bin) {
  constexpr int kBinsOfLane = kScoreBins / kWarpSize;
  unsigned of_lane = 0;
  for (int i = 0; i < kBinsOfLane; ++i) {
    of_lane += tokens[LaneId() * kBinsOfLane + i];
  }
  unsigned from_here = of_lane;  // in this lane's bins and higher ones
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const unsigned other = __shfl_down_sync(kFullMask, from_here, distance);
    from_here += LaneId() + distance < kWarpSize ? other : 0;
  }
  int64_t better = from_here - of_lane;
  float lowest = 0;  // a float for WarpMax: it is exact
  for (int i = kBinsOfLane - 1; i >= 0; --i) {
    const int bin = LaneId() * kBinsOfLane + i;
    better += tokens[bin];
    if (better >= scoring.num_refined) {
      lowest = fmaxf(lowest, static_cast<float>(bin));
    }
  }
  lowest = WarpMax(lowest);
  if (LaneId() == 0) *lowest_bin = static_cast<unsigned>(lowest);
}

// Exponents become those of kSign. All threads of the block call. A function of
// its own, for its registers to be its own.
static __device__ __attribute__((noinline)) void LookAtSigns(
    const SentenceScoring& scoring, const ScoringMemory& shared) {
  float* const coarse = scoring.ExponentsOf(scoring.num_heads);
  for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
    const float counted =
        log2f(static_cast<float>(scoring.ends[e] - scoring.Begin(e)));
    for (int64_t h = 0; h < scoring.num_heads; ++h) {
      scoring.ExponentsOf(h)[e] += counted;
    }
  }
  for (int i = threadIdx.x; i < static_cast<int>(kScoreBins); i += blockDim.x) {
    shared.bin_tokens[i] = 0;
  }
  FindShares(scoring, shared.shares);
  for (int64_t e = threadIdx.x; e < scoring.num_entries; e += blockDim.x) {
    coarse[e] = ScoreOf(scoring, shared.shares, e);
    atomicAdd(&shared.bin_tokens[ScoreBinOf(coarse[e])],
              static_cast<unsigned>(scoring.ends[e] - scoring.Begin(e)));
  }
  __syncthreads();
  if (WarpId() == 0) {
    FindLowestBin(scoring, shared.bin_tokens, shared.lowest_bin);
  }
  __syncthreads();
  const unsigned lowest = scoring.num_refined == 0 ? 0 : *shared.lowest_bin;
  int8_t* const weights =
      shared.weights + WarpId() * kHeadsTogether * scoring.head_dim;
  for (int64_t from = WarpId() * kWarpSize; from < scoring.num_entries;
       from += NumWarps() * kWarpSize) {
    const int64_t e = from + LaneId();
    unsigned refined = __ballot_sync(
        kFullMask, e < scoring.num_entries && ScoreBinOf(coarse[e]) >= lowest);
    for (; refined != 0; refined &= refined - 1) {
      AddSigns(scoring, from + __ffs(static_cast<int>(refined)) - 1, weights);
    }
  }
  __syncthreads();
}

}  // namespace sentencekv
