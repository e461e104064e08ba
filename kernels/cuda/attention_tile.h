// What both kernels of attention know of a tile: which queries and tokens are
// its, and how partitions are merged. Device code, for .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/token_block.h"

namespace sentencekv {

static_assert(kBlockTokens == kAttentionBlockTokens);
inline constexpr int kPartitionBlocks =
    static_cast<int>(kAttentionPartitionTokens / kAttentionBlockTokens);

// The tile whose part this block computes.
__device__ __forceinline__ QueryTile FindTile(const AttentionLaunch& launch) {
  int64_t low = 0;
  int64_t high = launch.num_tiles;  // of the first that begins behind
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (launch.tiles[middle].first_part <= static_cast<int>(blockIdx.x)) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return launch.tiles[low];
}

__device__ __forceinline__ int64_t NumPartitions(const QueryTile& tile) {
  return (tile.num_tokens + kAttentionPartitionTokens - 1) /
         kAttentionPartitionTokens;
}

// Where a query lies in the rows.
struct QueryPlace {
  int64_t row;
  int64_t head;
};

__device__ __forceinline__ QueryPlace PlaceOf(const AttentionLaunch& launch,
                                              const QueryTile& tile,
                                              int query) {
  const auto group =
      static_cast<int>(launch.num_heads / launch.kv.num_kv_heads);
  const int of_sequence = tile.first_query + query;
  return {tile.row_begin + of_sequence / group,
          (tile.kv_head + blockIdx.y) * int64_t{group} + of_sequence % group};
}

// Tokens of a block that the tile's last query sees.
__device__ __forceinline__ uint64_t PresentTokens(const AttentionLaunch& launch,
                                                  const QueryTile& tile,
                                                  int64_t block) {
  const int64_t first = block * kBlockTokens;
  if (launch.masks == nullptr) return LowBits(tile.num_tokens - first);
  uint64_t bits = 0;
  for (int i = 0; i < kBlockPages; ++i) {
    if (first + i * kPageTokens >= tile.num_tokens) break;
    bits |= uint64_t{launch.masks[tile.page_begin + block * kBlockPages + i]}
            << (i * kPageTokens);
  }
  return bits;
}

// Tokens of a block that a query may see, present or not.
__device__ __forceinline__ uint64_t VisibleTokens(const AttentionLaunch& launch,
                                                  const QueryTile& tile,
                                                  int64_t block, int query) {
  if (launch.masks != nullptr) return ~uint64_t{0};
  const int64_t position =
      tile.position + (PlaceOf(launch, tile, query).row - tile.row_begin);
  return LowBits(position + 1 - block * kBlockTokens);
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
