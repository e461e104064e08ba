// One part of a tile of attention on tensor cores; attention_kernels.cu has the
// mapping. Device code, for .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/mma_rows.h"
#include "kernels/cuda/token_block.h"
#include "kernels/cuda/token_ring.h"

namespace sentencekv {

inline constexpr int kMmaThreads = 128;  // at most

// How a block of threads is laid out for head sizes up to kDims.
template <int kDims>
struct MmaShape {
  // A warp sums outputs for at most 128 dimensions: registers have no room for
  // more. Where heads are larger, two warps have the same queries.
  static constexpr int kOutputDims = kDims < 128 ? kDims : 128;
  static constexpr int kWarpsPerRow = kDims / kOutputDims;
  static constexpr int kSlots = kDims <= 128 ? 3 : 2;

  static constexpr int64_t Threads(int64_t queries) {
    return queries / kMmaRows * kWarpsPerRow * kWarpSize;
  }
  static constexpr int64_t SharedBytes(int64_t queries, int64_t head_dim) {
    return (kSlots * kBlockTokens + queries) * RingStride(head_dim) * 2;
  }
};

template <typename T, int kDims>
struct MmaPart {
  using Shape = MmaShape<kDims>;
  using Rows = MmaRows<T, Shape::kOutputDims>;

  const AttentionLaunch& launch;
  const QueryTile& tile;
  const int dim;     // D
  const int stride;  // of a token or query in shared memory
  // Of this warp: its first query, and the dimensions whose output it sums.
  const int first_query;
  const int first_dim;
  const int num_dims;
  TokenRing<T, Shape::kSlots> ring;
  T* queries;  // [queries of the block][stride], times scale and log2(e)
  Rows rows;

  __device__ __forceinline__ MmaPart(const AttentionLaunch& of,
                                     const QueryTile& part_of)
      : launch(of),
        tile(part_of),
        dim(static_cast<int>(of.kv.head_dim)),
        stride(static_cast<int>(RingStride(of.kv.head_dim))),
        first_query(WarpId() / Shape::kWarpsPerRow * kMmaRows),
        first_dim(WarpId() % Shape::kWarpsPerRow * Shape::kOutputDims),
        num_dims(dim - first_dim < Shape::kOutputDims ? dim - first_dim
                                                      : Shape::kOutputDims),
        ring{of, part_of, DynamicShared<T>()},
        queries(ring.slots + Shape::kSlots * kBlockTokens * stride) {}

  // Copies the tile's queries, rounded; those beyond its number are zeros.
  __device__ __forceinline__ void LoadQueries() {
    const int capacity = NumWarps() / Shape::kWarpsPerRow * kMmaRows;
    const int64_t row_width =
        (launch.num_heads + 2 * launch.kv.num_kv_heads) * dim;
    const float scale = launch.scale * kLog2E;
    for (int query = WarpId(); query < capacity; query += NumWarps()) {
      const bool is_there = query < tile.num_queries;
      const QueryPlace place = PlaceOf(launch, tile, is_there ? query : 0);
      const float* q = launch.qkv + place.row * row_width + place.head * dim;
      for (int d = LaneId() * 4; d < dim; d += kWarpSize * 4) {
        const Vector<float, 4> four = LoadVector<float>(q + d);
        Vector<T, 4> rounded;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          rounded[i] = FromFloat<T>(is_there ? four[i] * scale : 0.0f);
        }
        StoreVector(queries + query * stride + d, rounded);
      }
    }
  }

  __device__ __forceinline__ void AddBlock(int64_t block) {
    const bool has_queries = first_query < tile.num_queries;  // of the warp
    const uint64_t present = PresentTokens(launch, tile, block);
    // The first query sees the least.
    const uint64_t seen_by_all =
        present & VisibleTokens(launch, tile, block, first_query);
    MmaWeights weights;
    const T* keys = ring.TakeItem();
    if (has_queries) {
      MmaScores scores;
      Rows::Score({queries + first_query * stride, stride, dim},
                  {keys, stride, dim}, scores);
      if (seen_by_all != ~uint64_t{0}) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          Rows::Hide(row,
                     present & VisibleTokens(launch, tile, block,
                                             first_query + Rows::RowOf(row)),
                     scores);
        }
      }
      rows.Weigh(scores, weights);
    }
    const MmaTokens<T> values = {ring.TakeItem() + first_dim, stride, num_dims};
    if (!has_queries) return;
    if (present == seen_by_all || !Rows::HasNonNumbers(values)) {
      rows.template AddValues<false>(values, weights);
      return;
    }
    // Zero times infinity is not zero: each row takes what it sees alone.
    for (int row = 0; row < kMmaRows; ++row) {
      rows.template AddValues<true>(
          values, weights, row,
          VisibleTokens(launch, tile, block, first_query + row));
    }
  }

  // Writes this lane's share of one of its rows, times `factor`, to where
  // dimension 0 is at `to`.
  __device__ __forceinline__ void StoreRow(
      const float (&from)[Rows::kColumns][4], int row, float factor,
      float* to) const {
    float* const mine = to + first_dim + LaneId() % 4 * 2;
#pragma unroll
    for (int n = 0; n < Rows::kColumns; ++n) {
      if (n * 8 >= num_dims) break;
      const Vector<float, 2> pair = {from[n][2 * row] * factor,
                                     from[n][2 * row + 1] * factor};
      StoreVector(mine + n * 8, pair);
    }
  }

  // Writes the state of each query after a partition.
  __device__ __forceinline__ void WriteStates(int64_t partition) const {
    const int64_t first =
        tile.first_state +
        (blockIdx.y * NumPartitions(tile) + partition) * tile.num_queries;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int query = first_query + Rows::RowOf(row);
      if (query >= tile.num_queries) continue;
      float* const state =
          launch.states + (first + query) * (dim + kAttentionStateExtra);
      StoreRow(rows.output, row, 1.0f, state);
      if (LaneId() % 4 == 0 && first_dim == 0) {
        state[dim] = rows.maximum[row];
        state[dim + 1] = rows.sum[2 * row];
      }
    }
  }

  __device__ __forceinline__ void WriteRows() const {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int query = first_query + Rows::RowOf(row);
      if (query >= tile.num_queries) continue;
      const QueryPlace place = PlaceOf(launch, tile, query);
      StoreRow(rows.total, row, 1.0f / rows.total_sum[row],
               launch.out +
                   (place.row * launch.num_heads + place.head) * int64_t{dim});
    }
  }

  __device__ __forceinline__ void Run() {
    const bool is_cut = tile.first_state >= 0;
    int64_t begin = 0;
    int64_t end = (tile.num_tokens + kBlockTokens - 1) / kBlockTokens;
    if (is_cut) {
      begin = (blockIdx.x - tile.first_part) * kPartitionBlocks;
      if (begin + kPartitionBlocks < end) end = begin + kPartitionBlocks;
    }
    LoadQueries();  // seen by others after the ring's first barrier
    ring.Start(begin, end);
    rows.Begin();
    for (int64_t block = begin; block < end; ++block) {
      if (block % kPartitionBlocks == 0) rows.BeginPartition();
      AddBlock(block);
      const bool is_last =
          block % kPartitionBlocks == kPartitionBlocks - 1 || block + 1 == end;
      if (is_last && is_cut) WriteStates(block / kPartitionBlocks);
      if (is_last && !is_cut) rows.MergePartition();
    }
    if (!is_cut) WriteRows();
  }
};

}  // namespace sentencekv
