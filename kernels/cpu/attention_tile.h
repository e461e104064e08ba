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

// Consecutive rows of one sequence, for the query heads of one KV head; or one
// row and the pages chosen for it, which then count as positions 0.. and the
// row as the last of them.
// "Query" below means one row of one head: query i is row i / num_heads, head
// i % num_heads of the tile.
struct AttentionTile {
  const float* q = nullptr;  // [queries, D], times scale and log2(e): scores
                             // are powers of two
  int64_t num_rows = 0;
  int64_t num_heads = 0;  // query heads of the KV head, H / G
  int64_t position = 0;   // of the first row
  int64_t head_dim = 0;   // D, a multiple of 8

  // Page i of the sequence has this head's K ([D][16 tokens]) and then V
  // ([16 tokens][D]) at kv + pages[i] * page_bytes.
  const std::byte* kv = nullptr;
  int64_t page_bytes = 0;
  const int32_t* pages = nullptr;
  // Of a row with chosen pages: bit t of masks[i] is token t of page i.
  const uint16_t* masks = nullptr;
  DType dtype = DType::kF16;

  // A whole tile gives finished rows. A part of one is a single partition and
  // gives the state of each query.
  bool is_part = false;
  int64_t partition = 0;  // of a part

  int64_t num_queries() const { return num_rows * num_heads; }
  int64_t num_partitions() const {
    return (position + num_rows + kPartitionTokens - 1) / kPartitionTokens;
  }
};

// Running softmax of one query: output sums [D, padded to 16], maximum, sum,
// and padding to whole cache lines. Floats of one.
inline constexpr int64_t StateFloats(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16 + 16;
}

// What a level provides. Scratch and results are aligned to 64 bytes. Results
// are [queries, D] finished rows, or [queries, state] for a part.
struct AttentionKernels {
  // Floats of scratch for a tile of that many queries.
  int64_t (*scratch_floats)(int64_t num_queries, int64_t head_dim) = nullptr;
  void (*attend)(const AttentionTile& tile, float* scratch,
                 float* result) = nullptr;
  // Merges the states of all parts of a tile, [partitions, queries, state],
  // into finished rows. Scratch: one state.
  void (*merge)(const AttentionTile& tile, const float* partials,
                float* scratch, float* result) = nullptr;
};

}  // namespace sentencekv
