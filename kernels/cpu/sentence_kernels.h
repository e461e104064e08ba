// What a level provides for the operations on sentences. Each call is one
// thread's piece of an operation with checked arguments.
#pragma once

#include <cstdint>

#include "kernels/op_params.h"
#include "kernels/score_bins.h"

namespace sentencekv {

struct SentenceKernels {
  // The entry of one sentence in one KV head. Scratch: 2 D floats.
  void (*index)(const KvLayerView& kv, const SentenceIndexItem& item,
                int64_t kv_head, float* scratch) = nullptr;
  // The scores of one item. Scratch: ScoreScratchFloats.
  void (*score)(const SentenceScoreItem& item, int64_t num_heads,
                int64_t head_dim, float scale, float* scratch) = nullptr;
  // The attention mass of one query head. Scratch: `block` queries times the
  // keys, rounded up to whole pages; `block` queries are scored together.
  void (*mass)(const AttentionMassParams& params, int64_t head, int64_t block,
               float* scratch) = nullptr;
};

// Query heads that go through a block of entries together.
inline constexpr int64_t kScoreHeads = 4;

// Floats of a query among others: whole vectors of every level, and bytes too.
static inline int64_t QueryWidth(int64_t head_dim) {
  return (head_dim + 63) / 64 * 64;
}

static inline int64_t ScoreScratchFloats(int64_t num_entries, int64_t num_heads,
                                         int64_t head_dim) {
  const int64_t padded = kBlockEntries * SentenceBlocks(num_entries);
  return (2 + 2 * num_heads) * padded +
         (2 * num_heads + kScoreHeads + 1) * QueryWidth(head_dim) +
         4 * num_heads;
}

}  // namespace sentencekv
