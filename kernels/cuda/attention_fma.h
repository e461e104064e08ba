// One part of a tile of attention in f32, one product at a time, computed by
// the 256 threads of a block; attention_kernels.cu has the formula. Device
// code, for .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {

// In the place of a probability: the query does not see the key.
inline constexpr float kUnseen = -1.0f;

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

// Copies the tile's queries; those beyond its number are zeros.
__device__ __forceinline__ void LoadQueries(const AttentionLaunch& launch,
                                            const QueryTile& tile, int capacity,
                                            float* q) {
  const auto dim = static_cast<int>(launch.kv.head_dim);
  const int64_t row_width =
      (launch.num_heads + 2 * launch.kv.num_kv_heads) * dim;
  const float scale = launch.scale * kLog2E;
  for (int i = threadIdx.x; i < capacity * dim; i += kTokenThreads) {
    const int query = i / dim;
    float value = 0;
    if (query < tile.num_queries) {
      const QueryPlace place = PlaceOf(launch, tile, query);
      value = launch.qkv[place.row * row_width + place.head * dim + i % dim];
    }
    q[i] = value * scale;
  }
}

// One part of a tile.
template <typename T, int kQueries>
struct FmaPart {
  const AttentionLaunch& launch;
  QueryTile tile;
  HeadPages head;
  SharedState shared;
  // Of this thread: one dimension of some queries.
  int dim;
  int first_query;
  bool has_output;
  float output[kQueries];  // of the partition
  float total[kQueries];   // of the partitions before it

  // Scores of a block become probabilities. `unseen` stands for those of keys
  // that the query does not see.
  __device__ void Softmax(int64_t block, uint64_t present, float unseen) {
    for (int query = WarpId(); query < tile.num_queries;
         query += kTokenThreads / kWarpSize) {
      const uint64_t seen = present & VisibleTokens(launch, tile, block, query);
      float* const near =
          shared.weights + LaneId() * shared.weight_stride + query;
      float* const far = near + kWarpSize * shared.weight_stride;
      const bool sees_near = (seen >> LaneId() & 1) != 0;
      const bool sees_far = (seen >> (LaneId() + kWarpSize) & 1) != 0;
      const float before = shared.maximum[query];
      const float highest = WarpMax(fmaxf(sees_near ? *near : kLowestScore,
                                          sees_far ? *far : kLowestScore));
      const float maximum = fmaxf(before, highest);
      const float near_power = sees_near ? exp2f(*near - maximum) : 0.0f;
      const float far_power = sees_far ? exp2f(*far - maximum) : 0.0f;
      const float added = WarpSum(near_power + far_power);
      *near = sees_near ? near_power : unseen;
      *far = sees_far ? far_power : unseen;
      __syncwarp();  // all lanes have read `maximum`
      if (LaneId() == 0) {
        const float factor = exp2f(before - maximum);
        shared.maximum[query] = maximum;
        shared.factor[query] = factor;
        shared.sum[query] = fmaf(shared.sum[query], factor, added);
      }
    }
  }

  // output = output x factor + probabilities x V. Where kChecks, what a query
  // does not see is not even multiplied by zero.
  template <bool kChecks>
  __device__ void AddValues(int num_tokens) {
    if (!has_output) return;
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      output[i] *= shared.factor[first_query + i];
    }
    const float* value = shared.tokens + dim;
    const float* weight = shared.weights + first_query;
    for (int t = 0; t < num_tokens; ++t) {
      const float v = *value;
#pragma unroll
      for (int i = 0; i < kQueries; i += 4) {
        const Vector<float, 4> four = LoadVector<float>(weight + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (kChecks && four[j] == kUnseen) continue;
          output[i + j] = fmaf(four[j], v, output[i + j]);
        }
      }
      value += TokenStride(head.head_dim);
      weight += shared.weight_stride;
    }
  }

  __device__ void AddBlock(int64_t block) {
    const uint64_t present = PresentTokens(launch, tile, block);
    // Only where the tile's rows end does a query not see what others see.
    const bool is_ragged =
        (present & ~VisibleTokens(launch, tile, block, 0)) != 0;
    __syncthreads();  // the readers of the block before are done
    LoadTokens<T>(head, KvHalf::kKeys, block, present, shared.tokens);
    __syncthreads();
    ScoreTokens<kQueries == 4 ? 1 : 4>(shared.tokens, shared.q, head.head_dim,
                                       tile.num_queries, shared.weights,
                                       shared.weight_stride);
    __syncthreads();
    LoadTokens<T>(head, KvHalf::kValues, block, present, shared.tokens);
    Softmax(block, present, is_ragged ? kUnseen : 0.0f);
    __syncthreads();
    const int64_t left = tile.num_tokens - block * kBlockTokens;
    const int num_tokens =
        left < kBlockTokens ? static_cast<int>(left) : kBlockTokens;
    if (is_ragged) {
      AddValues<true>(num_tokens);
    } else {
      AddValues<false>(num_tokens);
    }
  }

  __device__ void AddPartition(int64_t partition) {
#pragma unroll
    for (int i = 0; i < kQueries; ++i) output[i] = 0;
    __syncthreads();  // the readers of the partition before are done
    for (int i = threadIdx.x; i < tile.num_queries; i += kTokenThreads) {
      shared.maximum[i] = kLowestScore;
      shared.sum[i] = 0;
    }
    const int64_t begin = partition * kPartitionBlocks;
    for (int64_t block = begin; block < begin + kPartitionBlocks &&
                                block * kBlockTokens < tile.num_tokens;
         ++block) {
      AddBlock(block);
    }
  }

  // Writes the state of each query after a partition.
  __device__ void WriteStates(int64_t partition) {
    const int64_t state =
        tile.first_state +
        (blockIdx.y * NumPartitions(tile) + partition) * tile.num_queries;
    const int64_t width = head.head_dim + kAttentionStateExtra;
    float* const states = launch.states + state * width;
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      const int query = first_query + i;
      if (!has_output || query >= tile.num_queries) break;
      states[query * width + dim] = output[i];
    }
    for (int i = threadIdx.x; i < tile.num_queries; i += kTokenThreads) {
      states[i * width + head.head_dim] = shared.maximum[i];
      states[i * width + head.head_dim + 1] = shared.sum[i];
    }
  }

  // Adds the partition to the total.
  __device__ void MergePartition() {
    for (int i = threadIdx.x; i < tile.num_queries; i += kTokenThreads) {
      const MergeFactors factors =
          FactorsOf(shared.total_maximum[i], shared.maximum[i]);
      shared.total_maximum[i] = factors.maximum;
      shared.total_sum[i] = MergeInto(shared.total_sum[i], factors.left,
                                      shared.sum[i], factors.right);
      shared.left[i] = factors.left;
      shared.right[i] = factors.right;
    }
    __syncthreads();
    if (!has_output) return;
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      total[i] = MergeInto(total[i], shared.left[first_query + i], output[i],
                           shared.right[first_query + i]);
    }
  }

  __device__ void WriteRows() {
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      const int query = first_query + i;
      if (!has_output || query >= tile.num_queries) break;
      const QueryPlace place = PlaceOf(launch, tile, query);
      launch.out[(place.row * launch.num_heads + place.head) * head.head_dim +
                 dim] = total[i] * (1.0f / shared.total_sum[query]);
    }
  }

  __device__ void Run() {
    if (tile.first_state >= 0) {
      const int64_t partition = blockIdx.x - tile.first_part;
      AddPartition(partition);
      WriteStates(partition);
      return;
    }
    for (int64_t i = 0; i < NumPartitions(tile); ++i) {
      AddPartition(i);
      MergePartition();
    }
    WriteRows();
  }
};

}  // namespace sentencekv
