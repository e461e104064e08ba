// Sixteen queries of a warp, on tensor cores: scores, running softmax and
// outputs, which never leave the warp's registers. attention_kernels.cu has the
// formula. Device code, for .cu files; all lanes call.
//
// Of a 16 x 8 result of mma lane l holds rows l / 4 and l / 4 + 8, in columns
// 2 (l % 4) and + 1, which is where mma wants its left operand's: scores of
// tokens become weights of tokens in place.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {

inline constexpr int kMmaRows = 16;
// Below the maximum of a row that has seen nothing: 2^(this - that) is 0.
inline constexpr float kUnseenScore = 2 * kLowestScore;

// Two neighbours of an operand of mma.
template <typename T>
__device__ __forceinline__ uint32_t PackPair(float low, float high);
template <>
__device__ __forceinline__ uint32_t PackPair<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return __half_as_ushort(pair.x) | uint32_t{__half_as_ushort(pair.y)} << 16;
}
template <>
__device__ __forceinline__ uint32_t PackPair<__nv_bfloat16>(float low,
                                                            float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return __bfloat16_as_ushort(pair.x) | uint32_t{__bfloat16_as_ushort(pair.y)}
                                            << 16;
}

// A pair with those halves zeroed whose bit is 0.
__device__ __forceinline__ uint32_t KeepHalves(uint32_t pair, uint64_t bits) {
  return pair & (((bits & 1) != 0 ? 0x0000ffffu : 0) |
                 ((bits & 2) != 0 ? 0xffff0000u : 0));
}

// Where a block of keys or values, or queries, lie in shared memory.
template <typename T>
struct MmaTokens {
  const T* first;  // of dimension 0, or of the first dimension that is summed
  int stride;
  int num_dims;  // a multiple of 16
};

// A block of 64 tokens as this lane has it: scores of its two rows.
using MmaScores = float[8][4];
// The same as weights, rounded to the type of the values.
using MmaWeights = uint32_t[4][4];

template <typename T, int kDims>
struct MmaRows {
  static constexpr int kColumns = kDims / 8;

  // Of this lane's two rows, as mma has them.
  float output[kColumns][4];  // of the partition, as are the next two
  float sum[4];               // of weights: equal in each row's columns
  float maximum[2];
  float total[kColumns][4];  // of the partitions before, as are the next two
  float total_sum[2];
  float total_maximum[2];

  // Row 0 or 1 of this lane's, among the warp's.
  static __device__ __forceinline__ int RowOf(int row) {
    return LaneId() / 4 + row * 8;
  }

  __device__ __forceinline__ void Begin() {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) total[n][i] = 0;
    }
    total_sum[0] = total_sum[1] = 0;
    total_maximum[0] = total_maximum[1] = kLowestScore;
  }

  __device__ __forceinline__ void BeginPartition() {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum[i] = 0;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) output[n][i] = 0;
    }
    maximum[0] = maximum[1] = kLowestScore;
  }

  // scores = q K^T, 16 dimensions at a time.
  static __device__ __forceinline__ void Score(const MmaTokens<T>& queries,
                                               const MmaTokens<T>& keys,
                                               MmaScores& scores) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[n][i] = 0;
    }
    const int lane = LaneId();
    const T* q = queries.first + lane % 16 * queries.stride + lane / 16 * 8;
    const T* key = keys.first + (lane / 16 * 8 + lane % 8) * keys.stride +
                   lane / 8 % 2 * 8;
#pragma unroll 4
    for (int d = 0; d < keys.num_dims; d += 16) {
      uint32_t a[4];
      LoadMatrices(a, q + d);
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        uint32_t k[4];
        LoadMatrices(k, key + n * 8 * keys.stride + d);
        const uint32_t left[2] = {k[0], k[1]};
        const uint32_t right[2] = {k[2], k[3]};
        Mma16x8x16<T>(scores[n], a, left);
        Mma16x8x16<T>(scores[n + 1], a, right);
      }
    }
  }

  // Of this lane's row 0 or 1, forgets the scores of tokens that are not in
  // `seen`.
  static __device__ __forceinline__ void Hide(int row, uint64_t seen,
                                              MmaScores& scores) {
    seen >>= LaneId() % 4 * 2;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      if ((seen >> (i / 2 * 8 + i % 2) & 1) == 0) {
        scores[i / 2][2 * row + i % 2] = kUnseenScore;
      }
    }
  }

  // Scores become weights: the running maximum, the sum and the output take up
  // the block's maximum, the sum the block's weights.
  __device__ __forceinline__ void Weigh(MmaScores& scores,
                                        MmaWeights& weights) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float before = maximum[row];
      float highest = before;
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        highest = fmaxf(highest, scores[i / 2][2 * row + i % 2]);
      }
      maximum[row] = WarpMax(highest, 4);  // a row's lanes
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        float& score = scores[i / 2][2 * row + i % 2];
        score = Exp2(score - maximum[row]);
      }
      const float factor = Exp2(before - maximum[row]);
#pragma unroll
      for (int i = 2 * row; i < 2 * row + 2; ++i) {
        sum[i] *= factor;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) output[n][i] *= factor;
      }
    }
    const uint32_t ones[2] = {PackPair<T>(1, 1), PackPair<T>(1, 1)};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&from)[4] = scores[2 * k + i / 2];
        weights[k][i] = PackPair<T>(from[i % 2 * 2], from[i % 2 * 2 + 1]);
      }
      Mma16x8x16<T>(sum, weights[k], ones);
    }
  }

  // output += weights V, 16 tokens at a time. Where kOneRow, of the warp's row
  // `row` alone, and without the tokens that are not in `seen`.
  template <bool kOneRow>
  __device__ __forceinline__ void AddValues(const MmaTokens<T>& values,
                                            const MmaWeights& weights,
                                            int row = 0, uint64_t seen = 0) {
    const int lane = LaneId();
    const T* value = values.first + lane % 16 * values.stride + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint64_t bits = seen >> (16 * k + lane % 4 * 2);
#pragma unroll
      for (int n = 0; n < kColumns; n += 2) {
        if (n * 8 >= values.num_dims) break;
        uint32_t v[4];
        LoadMatricesTransposed(v, value + k * 16 * values.stride + n * 8);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float(&to)[4] = output[n + i];
          uint32_t b[2] = {v[2 * i], v[2 * i + 1]};
          if (!kOneRow) {
            Mma16x8x16<T>(to, weights[k], b);
            continue;
          }
          b[0] = KeepHalves(b[0], bits);
          b[1] = KeepHalves(b[1], bits >> 8);
          float sums[4] = {to[0], to[1], to[2], to[3]};
          Mma16x8x16<T>(sums, weights[k], b);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            if (RowOf(j / 2) == row) to[j] = sums[j];
          }
        }
      }
    }
  }

  // Whether a block has infinities or NaN.
  static __device__ __forceinline__ bool HasNonNumbers(
      const MmaTokens<T>& values) {
    float zero = 0;
    for (int token = 0; token < kBlockTokens; ++token) {
      for (int d = LaneId() * 4; d < values.num_dims; d += kWarpSize * 4) {
        const Vector<T, 4> four =
            LoadVector<T, 4>(values.first + token * values.stride + d);
#pragma unroll
        for (int i = 0; i < 4; ++i) zero = fmaf(ToFloat(four[i]), 0.0f, zero);
      }
    }
    return __any_sync(kFullMask, zero != 0) != 0;
  }

  // Adds the partition to the total.
  __device__ __forceinline__ void MergePartition() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const MergeFactors factors = FactorsOf(total_maximum[row], maximum[row]);
      total_maximum[row] = factors.maximum;
      total_sum[row] =
          MergeInto(total_sum[row], factors.left, sum[2 * row], factors.right);
#pragma unroll
      for (int i = 2 * row; i < 2 * row + 2; ++i) {
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          total[n][i] =
              MergeInto(total[n][i], factors.left, output[n][i], factors.right);
        }
      }
    }
  }
};

}  // namespace sentencekv
