// The running softmax of the queries of a tile, in shared memory, and how
// partitions of it are merged. Device code, for .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {

// What the threads of a block share, cut out of its dynamic memory.
struct SharedState {
  float* tokens;   // [64][D + 4], K and then V
  float* q;        // [queries][D], times scale and log2(e)
  float* weights;  // [64][weight_stride], scores and then probabilities
  float* maximum;  // [queries] of the partition so far, as are the next two
  float* sum;
  float* factor;         // of the output, by the newest block
  float* total_maximum;  // [queries] of the partitions before, as is the next
  float* total_sum;
  float* left;  // [queries] of the newest merge, as is the next
  float* right;
  int weight_stride;
};

constexpr int64_t SharedFloats(int64_t queries, int64_t head_dim) {
  return TokenBlockFloats(head_dim) + queries * head_dim +
         kBlockTokens * (queries + 4) + 7 * queries;
}

__device__ __forceinline__ SharedState CutShared(int queries,
                                                 int64_t head_dim) {
  float* next = DynamicShared<float>();
  const auto take = [&next](int64_t floats) {
    float* part = next;
    next += floats;
    return part;
  };
  SharedState state;
  state.weight_stride = queries + 4;
  state.tokens = take(kBlockTokens * TokenStride(head_dim));
  state.q = take(queries * head_dim);
  state.weights = take(kBlockTokens * state.weight_stride);
  state.maximum = take(queries);
  state.sum = take(queries);
  state.factor = take(queries);
  state.total_maximum = take(queries);
  state.total_sum = take(queries);
  state.left = take(queries);
  state.right = take(queries);
  return state;
}

// Partition states add up with these factors: see MergeInto.
struct MergeFactors {
  float maximum;
  float left;
  float right;
};

__device__ __forceinline__ MergeFactors FactorsOf(float left, float right) {
  const float maximum = fmaxf(left, right);
  return {maximum, exp2f(left - maximum), exp2f(right - maximum)};
}

// The one place that merges an output or a sum: the same bits everywhere.
__device__ __forceinline__ float MergeInto(float total, float left,
                                           float partial, float right) {
  return fmaf(total, left, partial * right);
}

}  // namespace sentencekv
