// The unit of attention work, and the functions of one dispatch level on it.
//
// How a query row's result is computed is fixed by its position alone, so that
// its bits do not depend on what is computed beside it:
//   - keys come in blocks of 64 from position 0; a score sums over the
//     dimensions in order; each block makes one update of the running maximum,
//     sum and output (Milakov and Gimelshein,
//     https://arxiv.org/abs/1805.02867); the output sums over the tokens in
//     order;
//   - 16 blocks make a partition of 1,024 keys, which starts afresh; partitions
//     are merged in order. They let one long sequence be shared by threads.
// A masked key is never touched: no product with zero stands for it.
//
// Plain structs of pointers: files of every level include this one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace sentencekv {

inline constexpr int64_t kBlockTokens = 64;
inline constexpr int64_t kPartitionTokens = 1024;

// Consecutive rows of one sequence, for the query heads of one KV head.
// "Query" below means one row of one head: query i is row i / num_heads, head
// i % num_heads of the tile.
struct AttentionTile {
  const float* q = nullptr;  // row r, head h at q + r * q_stride + h * D
  int64_t q_stride = 0;
  float* out = nullptr;  // row r, head h at out + r * out_stride + h * D
  int64_t out_stride = 0;
  int64_t num_rows = 0;
  int64_t num_heads = 0;  // query heads of the KV head, H / G
  int64_t position = 0;   // of the first row
  int64_t head_dim = 0;   // D, a multiple of 8
  float scale = 0;

  // Page i of the sequence has this head's K ([D][16 tokens]) and then V
  // ([16 tokens][D]) at kv + pages[i] * page_bytes.
  const std::byte* kv = nullptr;
  int64_t page_bytes = 0;
  const int32_t* pages = nullptr;
  DType dtype = DType::kF16;

  // Partitions to do. When `partials` is null they are all, and the finished
  // rows go to `out`; otherwise it receives one state per query.
  int64_t first_partition = 0;
  int64_t num_partitions = 0;
  float* partials = nullptr;  // [num_rows * num_heads, state_floats(D)]

  int64_t num_queries() const { return num_rows * num_heads; }
};

// Running softmax of one query: output sums [D, padded to 16], maximum, sum,
// and padding to whole cache lines. Floats of one.
inline constexpr int64_t StateFloats(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16 + 16;
}

// What a level provides. Scratch is aligned to 64 bytes.
struct AttentionKernels {
  // Floats of scratch for a tile of that many queries.
  int64_t (*scratch_floats)(int64_t num_queries, int64_t head_dim);
  void (*attend)(const AttentionTile& tile, float* scratch);
  // Merges the states of partitions 0..n-1 of a tile, [n][queries][state], into
  // its out. The first states are used as scratch.
  void (*merge)(const AttentionTile& tile, int64_t num_partitions,
                float* partials);
};

}  // namespace sentencekv
