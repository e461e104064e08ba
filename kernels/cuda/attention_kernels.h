// Exact attention over pages of K and V: of rows to all tokens before them, and
// of rows to chosen tokens. kernels/cuda/attention_plan.h makes the tiles.
//
// How a row's result is computed is fixed by its position alone:
//   - keys come in blocks of 64 from position 0 (or from the first chosen
//     page); a score sums over the dimensions in order; a block makes one
//     update of maximum, sum and output, the output summing over its tokens in
//     order;
//   - 4 blocks make a partition of 256 keys, which starts afresh; partitions
//     are merged in order.
// So a row gets the same bits alone and among others, in any chunk, whether one
// block of threads goes through its partitions or each has a block of its own,
// and with all its tokens chosen.
//
// Pages of bf16 or f16 are multiplied by tensor cores, where D is a multiple of
// 16: q, times scale, and the weights of a block are rounded to the pages'
// type, and divided by the sum of what they became; scores, softmax and sums
// are f32, 16 dimensions or tokens at a time being one sum of the hardware's.
// All else is f32 throughout, one product at a time.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/paged_kv.h"

namespace sentencekv {

inline constexpr int64_t kAttentionBlockTokens = 64;
inline constexpr int64_t kAttentionPartitionTokens = 256;
// KV heads of a launch lie along the grid's y.
inline constexpr int64_t kMaxAttentionKvHeads = 65535;

// Queries that share each read of K and V. "Query" means one row of one head:
// query i of a sequence is row i / (H / G), head i % (H / G) of the KV head.
struct QueryTile {
  int64_t row_begin = 0;    // the sequence's first row in qkv and out
  int64_t position = 0;     // of that row; unused with masks
  int64_t page_begin = 0;   // of the sequence or choice, in `pages`
  int64_t num_tokens = 0;   // that the tile's last query sees; with masks the
                            // pages' tokens, chosen or not
  int32_t first_query = 0;  // of the sequence's
  int32_t num_queries = 0;  // at most TileQueries()
  int32_t kv_head = 0;      // plus the block's y
  int32_t first_part = 0;   // number of the tile's first part in the grid: the
                            // parts of the tiles before it
  // Of a tile cut into parts, one for each partition: where the state of its
  // first query goes, in states. -1: one part goes through all partitions.
  int64_t first_state = -1;
};

// The state of a query after one partition: [D] output sums, maximum, sum and
// padding. Floats of one.
inline constexpr int64_t kAttentionStateExtra = 4;
constexpr int64_t AttentionStateFloats(int64_t head_dim) {
  return head_dim + kAttentionStateExtra;
}

// kFew is for decoding: less memory a block, so that more blocks load at a
// time. kMany is for prefill: more products for each load.
enum class AttentionTileSize : uint8_t { kFew, kMany };

constexpr bool AttendsOnTensorCores(DType dtype, int64_t head_dim) {
  return dtype != DType::kF32 && head_dim % 16 == 0;
}

// Most queries of a tile, for D up to 64, 128 and 256: on tensor cores 16, and
// 64, 64 or 32; else 16, 8 or 4, and 64, 32 or 16.
constexpr int64_t TileQueries(AttentionTileSize size, DType dtype,
                              int64_t head_dim) {
  const bool is_few = size == AttentionTileSize::kFew;
  if (AttendsOnTensorCores(dtype, head_dim)) {
    return is_few ? 16 : head_dim <= 128 ? 64 : 32;
  }
  int64_t lanes = 64;  // of 256 threads, that share a query's dimensions
  while (lanes < head_dim) lanes *= 2;
  return 256 / lanes * (is_few ? 4 : 16);
}

struct AttentionLaunch {
  const float* qkv = nullptr;  // [T, (H + 2 G) D], q turned
  float* out = nullptr;        // [T, H D]
  PagedKv kv;
  int64_t num_heads = 0;  // H
  float scale = 0;
  const int32_t* pages = nullptr;   // of all sequences or choices
  const uint16_t* masks = nullptr;  // of the pages of choices, else null
  const QueryTile* tiles = nullptr;
  int64_t num_tiles = 0;
  int64_t num_parts = 0;  // of all tiles
  // How many KV heads each tile stands for: G, with kv_head 0, for causal
  // tiles; 1 for choices.
  int64_t num_kv_heads = 0;
  AttentionTileSize size = AttentionTileSize::kFew;
  // [states][AttentionStateFloats]: of a tile, [KV heads][parts][queries].
  float* states = nullptr;
  bool has_cut_tiles = false;
  bool operator==(const AttentionLaunch&) const = default;
};

// cudaErrorInvalidValue where D is no multiple of 8 in 8..256.
cudaError_t LaunchAttention(const AttentionLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
